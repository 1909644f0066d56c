"""The same service for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from cellblock._asyncio import AsyncClient, AsyncNotebook
from cellblock._checkpoints import Checkpoint
from cellblock._exceptions import CellblockError, CheckpointProblem, UnknownNotebook
from cellblock._messages import Output
from cellblock._outcome import Outcome

from .blocking import ABANDON_SECONDS
from .result import ExecutionResult
from .saved import checkpoint_dict
from .tasks import Notebooks, Question, Task

T = TypeVar("T")

HEAVY_BYTES: Final = 64 << 10
"""From here on a result is put together in a thread: a millisecond of it, that others should not wait for."""


class AsyncExecutionService:
    """`ExecutionService` for one event loop, which is never held up: every method is awaited.

    ::

        async with cellblock.AsyncExecutionService() as service:
            result = await service.execute_code("print(6 * 7)", "cell-1", "analysis")

    Arguments as for `ExecutionService`, with an `AsyncClient` for a client. Cells of different notebooks
    run at the same time. A task that is cancelled while it waits for a cell takes the cell along.
    """

    def __init__(
        self,
        server: AsyncClient | str | os.PathLike[str] | None = None,
        *,
        profile: str | None = None,
        wall_seconds: float | None = None,
    ) -> None:
        self._connecting = asyncio.Lock()
        self._client = server if isinstance(server, AsyncClient) else None
        self._socket_path = None if isinstance(server, AsyncClient) else server
        self._owns_client = self._client is None
        self._profile = profile
        self._open: dict[str, AsyncNotebook] = {}
        self._notebooks = Notebooks(wall_seconds)

    # Cells.

    async def execute_code(
        self,
        code: str,
        cell_id: str,
        notebook_id: str | None = None,
        autofix: bool = True,
        capture_outputs: bool = True,
        persist_state: bool = True,
    ) -> ExecutionResult:
        """Runs a cell; arguments as for `ExecutionService.execute_code`."""
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
        outcome = await self._perform(run.task, run.take)
        if run.weight < HEAVY_BYTES:
            return run.result(outcome)
        return await asyncio.to_thread(run.result, outcome)

    async def interrupt(self, notebook_id: str | None = None) -> None:
        """Interrupts the cell that runs, if one does; the variables are kept."""
        with contextlib.suppress(UnknownNotebook):
            await (await self._unopened(self._notebooks.name_of(notebook_id))).interrupt()

    # Variables.

    async def get_variable_info(self, notebook_id: str | None = None) -> dict[str, Any]:
        """All variables by category: `dataframes`, `modules`, `numbers`, `dicts`, `arrays`, `other`."""
        question = self._notebooks.variables(notebook_id)
        return question.variables(await self._ask(notebook_id, question))

    async def get_variable_content(self, notebook_id: str | None, name: str) -> dict[str, Any]:
        """A variable's type, size and a preview of its value; `UnknownVariable`, a KeyError, without one."""
        question = self._notebooks.variable(notebook_id, name)
        return question.variable(await self._ask(notebook_id, question), name)

    async def set_notebook_execution_seed(self, notebook_id: str | None, seed: int) -> None:
        """Begins the notebook's random numbers anew: at once, and in each worker that it gets later."""
        question = self._notebooks.seed(notebook_id, seed)
        question.check(await self._ask(notebook_id, question))

    async def clear_namespace(
        self, notebook_id: str | None = None, keep_imports: bool = True, clear_saved_state: bool = True
    ) -> None:
        """Forgets what the cells have made; arguments as for `ExecutionService.clear_namespace`."""
        question = self._notebooks.clear(notebook_id, keep_imports, clear_saved_state)
        outcome = await self._ask(notebook_id, question)
        question.check(outcome)
        if clear_saved_state and outcome.checkpoint is not None:
            await self._forget_older(notebook_id, outcome.checkpoint)

    # Notebooks.

    async def close_notebook(self, notebook_id: str | None = None) -> None:
        """Ends the notebook's worker; its files, its seed and what is saved stay."""
        await self._end(notebook_id, AsyncNotebook.close, deleted=False)

    async def delete_notebook(self, notebook_id: str | None = None) -> None:
        """`close_notebook`, and its files, its seed and what is saved go too."""
        await self._end(notebook_id, AsyncNotebook.delete, deleted=True)

    # Saved state.

    async def has_saved_state(self, notebook_id: str | None = None) -> bool:
        """Whether there is a checkpoint: what the notebook's next worker begins with."""
        try:
            return len(await self._opened(notebook_id, AsyncNotebook.checkpoints)) > 0
        except CheckpointProblem:
            return False  # Its profile has none.

    async def save_state(self, notebook_id: str | None = None) -> dict[str, Any]:
        """Saves the variables now and waits for it; what is returned is as `ExecutionResult.checkpoint`."""
        return checkpoint_dict(await self._opened(notebook_id, AsyncNotebook.checkpoint))

    async def restore_state(self, notebook_id: str | None = None) -> bool:
        """Starts a new worker with the variables as they were saved last; False when nothing is saved."""
        try:
            await self._opened(notebook_id, AsyncNotebook.restore)
        except CheckpointProblem:
            if await self.has_saved_state(notebook_id):
                raise
            return False
        return True

    async def clear_saved_state(self, notebook_id: str | None = None) -> bool:
        """Removes all that is saved, and ends the worker, which has the variables too.

        Whether something was saved; nothing is done where the profile has no checkpoints.
        """
        try:
            saved = await self._opened(notebook_id, AsyncNotebook.checkpoints)
        except CheckpointProblem:
            return False
        # Without any all the same: one may be on its way.
        await self._opened(notebook_id, AsyncNotebook.clear)
        return len(saved) > 0

    async def close(self) -> None:
        """Closes the connections, unless they are of an `AsyncClient` that was given. Notebooks go on."""
        self._open.clear()
        if self._client is not None and self._owns_client:
            client, self._client = self._client, None
            await client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, notebook_id: str | None, question: Question) -> Outcome:
        try:
            return await self._perform(question.task, question.take)
        finally:
            self._notebooks.keep(notebook_id, question.notices)

    async def _perform(self, task: Task, take: Callable[[Output], None], *, again: bool = True) -> Outcome:
        notebook = await self._notebook(task.notebook)
        try:
            asked = notebook.execute(task.code, execution_id=task.execution_id, **task.options)
            async with await asked as execution:
                async for output in execution:
                    take(output)
        except UnknownNotebook:
            self._open.pop(task.notebook, None)
            if again and not execution._progress.accepted:
                # It was closed since we opened it, and nothing has run: now it is open again.
                return await self._perform(task, take, again=False)
            raise
        except CellblockError:
            raise
        except BaseException:
            # Nobody can ask for the result any more, so nobody waits behind it for nothing.
            with contextlib.suppress(CellblockError):
                await notebook.cancel(task.execution_id, timeout=ABANDON_SECONDS)
            raise
        assert execution.outcome is not None, "reading stops at the Outcome"
        return execution.outcome

    async def _forget_older(self, notebook_id: str | None, cleared: Checkpoint) -> None:
        """Removes what was saved before the namespace was cleared."""
        if cleared.is_saved:
            await self._opened(notebook_id, lambda notebook: notebook.collect_checkpoints(keep_last=1))
        elif await self.has_saved_state(notebook_id):
            # That nothing of it comes back matters more than the imports that this worker has kept.
            await self._opened(notebook_id, AsyncNotebook.clear)

    async def _opened(
        self, notebook_id: str | None, ask: Callable[[AsyncNotebook], Awaitable[T]], *, again: bool = True
    ) -> T:
        """Asks a notebook that must be open for it."""
        name = self._notebooks.name_of(notebook_id)
        try:
            return await ask(await self._notebook(name))
        except UnknownNotebook:
            self._open.pop(name, None)
            if again:
                return await self._opened(notebook_id, ask, again=False)
            raise

    async def _end(
        self, notebook_id: str | None, end: Callable[[AsyncNotebook], Awaitable[None]], *, deleted: bool
    ) -> None:
        name = self._notebooks.name_of(notebook_id)
        with contextlib.suppress(UnknownNotebook):
            await end(await self._unopened(name))
        self._open.pop(name, None)
        self._notebooks.forget(notebook_id, deleted=deleted)

    async def _notebook(self, name: str) -> AsyncNotebook:
        """A notebook that was open when we last heard of it."""
        notebook = self._open.get(name)
        if notebook is None:
            notebook = self._open[name] = await (await self._connected()).open(name, self._profile)
        return notebook

    async def _unopened(self, name: str) -> AsyncNotebook:
        """A notebook that need not be open for what is asked of it."""
        return AsyncNotebook(await self._connected(), name, self._profile)

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await AsyncClient.connect(self._socket_path)
            return self._client
