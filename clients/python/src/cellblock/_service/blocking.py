"""The blocking service."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from cellblock._checkpoints import Checkpoint
from cellblock._client import Client, Notebook
from cellblock._exceptions import CellblockError, CheckpointProblem, UnknownNotebook
from cellblock._messages import Output
from cellblock._outcome import Outcome

from .result import ExecutionResult
from .saved import checkpoint_dict
from .tasks import Notebooks, Question, Task

T = TypeVar("T")

ABANDON_SECONDS = 5.0
"""How long we try to end a cell whose result nobody waits for any more."""


class ExecutionService:
    """Runs the cells of notebooks, each notebook in its own sandboxed worker. For any number of threads.

    ::

        with cellblock.ExecutionService() as service:
            result = service.execute_code("print(6 * 7)", "cell-1", "analysis")
            print(result.status, result.stdout)

    `server` is a `Client`, the path of cellblockd's socket, or None for the one that `Client.connect` finds;
    a connection is made when it is first needed. `profile` is the one that notebooks are opened with, and
    `wall_seconds` what a cell may take (the profile's when None, never more).

    Any text is a notebook's id; None stands for "default". What a cell does is in its result. What
    cellblock cannot do (nobody listens, the profile is broken) is a `CellblockError`. Cells of one notebook
    run one after the other, and what is asked about its variables waits for them.
    """

    def __init__(
        self,
        server: Client | str | os.PathLike[str] | None = None,
        *,
        profile: str | None = None,
        wall_seconds: float | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._client = server if isinstance(server, Client) else None
        self._socket_path = None if isinstance(server, Client) else server
        self._owns_client = self._client is None
        self._profile = profile
        self._open: dict[str, Notebook] = {}
        self._notebooks = Notebooks(wall_seconds)

    # Cells.

    def execute_code(
        self,
        code: str,
        cell_id: str,
        notebook_id: str | None = None,
        autofix: bool = True,
        capture_outputs: bool = True,
        persist_state: bool = True,
    ) -> ExecutionResult:
        """Runs a cell and returns when it has ended, whichever way.

        `autofix` repairs what is certain to be a slip, and reports it. Without `capture_outputs` there are
        texts, but no tables and figures. With `persist_state` the variables are saved before the result is
        there, whether the cell failed or not; without it, what it does to them is saved with the next cell
        that has it. A KeyboardInterrupt in the calling thread ends the cell too.
        """
        run = self._notebooks.run(
            notebook_id,
            cell_id,
            code,
            autofix=autofix,
            capture=capture_outputs,
            persist=persist_state,
        )
        if (refused := run.refused()) is not None:
            return refused
        return run.result(self._perform(run.task, run.take))

    def interrupt(self, notebook_id: str | None = None) -> None:
        """Interrupts the cell that runs, if one does; the variables are kept."""
        with contextlib.suppress(UnknownNotebook):
            self._unopened(self._notebooks.name_of(notebook_id)).interrupt()

    # Variables.

    def get_variable_info(self, notebook_id: str | None = None) -> dict[str, Any]:
        """All variables by category: `dataframes`, `modules`, `numbers`, `dicts`, `arrays`, `other`."""
        question = self._notebooks.variables(notebook_id)
        return question.variables(self._ask(notebook_id, question))

    def get_variable_content(self, notebook_id: str | None, name: str) -> dict[str, Any]:
        """A variable's type, size and a preview of its value; `UnknownVariable`, a KeyError, without one."""
        question = self._notebooks.variable(notebook_id, name)
        return question.variable(self._ask(notebook_id, question), name)

    def set_notebook_execution_seed(self, notebook_id: str | None, seed: int) -> None:
        """Begins the notebook's random numbers anew: at once, and in each worker that it gets later.

        It is kept by this object, and what it does to the random numbers is saved with the variables.
        """
        question = self._notebooks.seed(notebook_id, seed)
        question.check(self._ask(notebook_id, question))

    def clear_namespace(
        self, notebook_id: str | None = None, keep_imports: bool = True, clear_saved_state: bool = True
    ) -> None:
        """Forgets what the cells have made; the helpers are as at the beginning.

        With `keep_imports` what was imported stays. With `clear_saved_state` nothing else is saved any more
        either; without, `restore_state` brings back what there was.
        """
        question = self._notebooks.clear(notebook_id, keep_imports, clear_saved_state)
        outcome = self._ask(notebook_id, question)
        question.check(outcome)
        if clear_saved_state and outcome.checkpoint is not None:
            self._forget_older(notebook_id, outcome.checkpoint)

    # Notebooks.

    def close_notebook(self, notebook_id: str | None = None) -> None:
        """Ends the notebook's worker; its files, its seed and what is saved stay."""
        self._end(notebook_id, Notebook.close, deleted=False)

    def delete_notebook(self, notebook_id: str | None = None) -> None:
        """`close_notebook`, and its files, its seed and what is saved go too."""
        self._end(notebook_id, Notebook.delete, deleted=True)

    # Saved state.

    def has_saved_state(self, notebook_id: str | None = None) -> bool:
        """Whether there is a checkpoint: what the notebook's next worker begins with."""
        try:
            return len(self._opened(notebook_id, Notebook.checkpoints)) > 0
        except CheckpointProblem:
            return False  # Its profile has none.

    def save_state(self, notebook_id: str | None = None) -> dict[str, Any]:
        """Saves the variables now and waits for it; what is returned is as `ExecutionResult.checkpoint`."""
        return checkpoint_dict(self._opened(notebook_id, Notebook.checkpoint))

    def restore_state(self, notebook_id: str | None = None) -> bool:
        """Starts a new worker with the variables as they were saved last; False when nothing is saved."""
        try:
            self._opened(notebook_id, Notebook.restore)
        except CheckpointProblem:
            if self.has_saved_state(notebook_id):
                raise
            return False
        return True

    def clear_saved_state(self, notebook_id: str | None = None) -> bool:
        """Removes all that is saved, and ends the worker, which has the variables too.

        Whether something was saved; nothing is done where the profile has no checkpoints.
        """
        try:
            saved = self._opened(notebook_id, Notebook.checkpoints)
        except CheckpointProblem:
            return False
        # Without any all the same: one may be on its way.
        self._opened(notebook_id, Notebook.clear)
        return len(saved) > 0

    def close(self) -> None:
        """Closes the connections, unless they are of a `Client` that was given. Notebooks go on."""
        with self._lock:
            self._open.clear()
            client, self._client = self._client, None if self._owns_client else self._client
        if client is not None and self._owns_client:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, notebook_id: str | None, question: Question) -> Outcome:
        try:
            return self._perform(question.task, question.take)
        finally:
            self._notebooks.keep(notebook_id, question.notices)

    def _perform(self, task: Task, take: Callable[[Output], None], *, again: bool = True) -> Outcome:
        notebook = self._notebook(task.notebook)
        try:
            with notebook.execute(task.code, execution_id=task.execution_id, **task.options) as execution:
                for output in execution:
                    take(output)
        except UnknownNotebook:
            self._forget(task.notebook)
            if again and not execution._progress.accepted:
                # It was closed since we opened it, and nothing has run: now it is open again.
                return self._perform(task, take, again=False)
            raise
        except CellblockError:
            raise
        except BaseException:
            # Nobody can ask for the result any more, so nobody waits behind it for nothing.
            with contextlib.suppress(CellblockError):
                notebook.cancel(task.execution_id, timeout=ABANDON_SECONDS)
            raise
        assert execution.outcome is not None, "reading stops at the Outcome"
        return execution.outcome

    def _forget_older(self, notebook_id: str | None, cleared: Checkpoint) -> None:
        """Removes what was saved before the namespace was cleared."""
        if cleared.is_saved:
            self._opened(notebook_id, lambda notebook: notebook.collect_checkpoints(keep_last=1))
        elif self.has_saved_state(notebook_id):
            # That nothing of it comes back matters more than the imports that this worker has kept.
            self._opened(notebook_id, Notebook.clear)

    def _opened(self, notebook_id: str | None, ask: Callable[[Notebook], T], *, again: bool = True) -> T:
        """Asks a notebook that must be open for it."""
        name = self._notebooks.name_of(notebook_id)
        try:
            return ask(self._notebook(name))
        except UnknownNotebook:
            self._forget(name)
            if again:
                return self._opened(notebook_id, ask, again=False)
            raise

    def _end(self, notebook_id: str | None, end: Callable[[Notebook], None], *, deleted: bool) -> None:
        name = self._notebooks.name_of(notebook_id)
        with contextlib.suppress(UnknownNotebook):
            end(self._unopened(name))
        self._forget(name)
        self._notebooks.forget(notebook_id, deleted=deleted)

    def _notebook(self, name: str) -> Notebook:
        """A notebook that was open when we last heard of it."""
        notebook = self._open.get(name)
        if notebook is None:
            notebook = self._connected().open(name, self._profile)
            with self._lock:
                self._open[name] = notebook
        return notebook

    def _unopened(self, name: str) -> Notebook:
        """A notebook that need not be open for what is asked of it."""
        return Notebook(self._connected(), name, self._profile)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._open.pop(name, None)

    def _connected(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = Client.connect(self._socket_path)
            return self._client
