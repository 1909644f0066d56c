"""What an ExecutionService asks of a worker, without the asking: the same for both of its kinds.

`Notebooks` remembers of each notebook how many cells ran and which seed was set, and makes `Run`s and
`Question`s. Each has a `Task` to perform, takes its outputs one by one, and makes something of them.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from cellblock._exceptions import ExecutionFailed, ProtocolError
from cellblock._messages import Bundle, Display, Error, Notice, Output
from cellblock._outcome import NameChanges, Outcome, Raised, Usage
from cellblock._requests import Checkpointing, ExecuteOptions

from . import plain, reports, stacks
from .assembly import Asked, Assembly
from .endings import ending_of
from .errors import UnknownVariable
from .ids import DEFAULT_NOTEBOOK, safe_id, seed_of
from .result import ExecutionResult

PLUGIN: Final = "execution_service"
ANSWER: Final = "application/vnd.cellblock.answer+json"
QUESTION_SECONDS: Final = 30.0
"""Far above what answering takes; for values that make it take long."""
LARGEST_SEED: Final = 2**32 - 1
"""numpy's."""
SAVED: Final[Checkpointing] = "wait"
"""As callers of the old service know it: when the result is there, so is the state, whatever the next cell
does to the worker; and what could not be saved is in the result of the cell that made it."""
CATEGORIES: Final = frozenset(["dataframes", "modules", "numbers", "dicts", "arrays", "other"])

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

Deed: TypeAlias = Literal["clear", "seed", "variables", "variable"]


@dataclass(frozen=True, slots=True)
class Task:
    """An Execution to be made, in cellblock's own names."""

    notebook: str
    execution_id: str
    code: str
    options: ExecuteOptions


class Run:
    """A cell."""

    def __init__(self, task: Task, asked: Asked, notices: list[Notice]) -> None:
        self.task = task
        self._started = datetime.now()
        self._clock = time.perf_counter()
        self._assembly = Assembly(asked)
        for notice in notices:
            self.take(notice)

    @property
    def weight(self) -> int:
        """Bytes that `result` has to look at."""
        return self._assembly.weight

    def take(self, output: Output) -> None:
        """Takes the next output."""
        self._assembly.take(output)

    def result(self, outcome: Outcome) -> ExecutionResult:
        """The result; to be called once."""
        result = self._assembly.result(outcome, self._started)
        result.execution_time = time.perf_counter() - self._clock
        return result

    def refused(self) -> ExecutionResult | None:
        """The result of code that cannot even be sent: half of a surrogate pair has no UTF-8."""
        found = _SURROGATE.search(self.task.code)
        if found is None:
            return None
        line = self.task.code.count("\n", 0, found.start()) + 1
        message = f"Syntax Error on line {line}: U+{ord(found[0]):04X} is half of a character"
        column = found.start() - (self.task.code.rfind("\n", 0, found.start()) + 1) + 1
        refused = {"message": message, "line": line, "column": column, "syntax": True}
        issue = {"severity": "error", "message": message, "rule_id": "DA0002", "line": line, "column": column}
        lint = {"engine": "builtin", "issues": [issue | {"suggestion": None, "fixable": False}]}
        report = plain.dump({"lint_report": lint, "refused": refused}).encode()
        self.take(Display(0, Bundle({reports.MIME: report}, {}), None, update=False))
        end = Raised(reports.Refusal.error_type, message)
        names = NameChanges((), (), ())
        return self.result(Outcome(end, 0, 0.0, 0.0, None, names, {}, Usage(0.0, 0, 0)))


class Question:
    """Something else that the plug-in does for us."""

    def __init__(self, task: Task, deed: Deed) -> None:
        self.task = task
        self.notices: list[Notice] = []
        """What was to be told with the next cell, and came with this."""
        self._deed = deed
        self._answer: bytes | None = None
        self._error: Error | None = None

    def take(self, output: Output) -> None:
        """Takes the next output."""
        match output:
            case Display(_, bundle) if ANSWER in bundle:
                self._answer = bundle[ANSWER]
            case Error():
                self._error = output
            case Notice(_, "variables_lost"):
                self.notices.append(output)
            case _:
                pass

    def check(self, outcome: Outcome) -> None:
        """Raises when it was not done."""
        if not outcome.ok:
            message = (
                f"`{self._deed}` of notebook `{self.task.notebook}` failed: {ending_of(outcome).sentence}"
            )
            raise ExecutionFailed(message, outcome=outcome, error=self._error)

    def variables(self, outcome: Outcome) -> dict[str, Any]:
        """The answer to `variables`."""
        answer = self._read(outcome)
        if answer.keys() != CATEGORIES or not all(type(category) is dict for category in answer.values()):
            raise self._strange("the categories of variables are not those")
        return answer

    def variable(self, outcome: Outcome, name: str) -> dict[str, Any]:
        """The answer to `variable`."""
        answer = self._read(outcome)
        if "type" in answer:
            return answer
        unknown = f"Variable '{name}' not found"
        if answer.get("error") == unknown:
            raise UnknownVariable(unknown)
        raise self._strange(f"it could not look at '{name[:80]}': {str(answer.get('error'))[:300]}")

    def _read(self, outcome: Outcome) -> dict[str, Any]:
        self.check(outcome)
        if self._answer is None:
            raise self._strange("there is no answer")
        try:
            answer = plain.parse(self._answer).value
        except plain.Malformed as fault:
            raise self._strange(str(fault)) from None
        if type(answer) is not dict:
            raise self._strange("it is no object")
        return answer

    def _strange(self, what: str) -> ProtocolError:
        return ProtocolError(f"what the worker of `{self.task.notebook}` answers to `{self._deed}`: {what}")


@dataclass(slots=True)
class _Known:
    """A notebook that has been used."""

    cells: int = 0
    notices: list[Notice] = field(default_factory=list)


class Notebooks:
    """What is remembered of notebooks. For any number of threads."""

    def __init__(self, wall_seconds: float | None) -> None:
        self._wall_seconds = wall_seconds
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._seeds: dict[str, int] = {}
        self._has_warned = False

    def run(
        self,
        notebook_id: str | None,
        cell_id: str,
        code: str,
        *,
        autofix: bool,
        capture: bool,
        persist: bool,
    ) -> Run:
        """A cell to run."""
        notebook_id = self._named(notebook_id)
        with self._lock:
            known = self._known.setdefault(notebook_id, _Known())
            known.cells += 1
            number = known.cells
            notices, known.notices = known.notices, []
        arguments = {
            "do": "run",
            "notebook": notebook_id,
            "seed": self._seed(notebook_id),
            "cell": number,
            "autofix": autofix,
            "capture": capture,
        }
        options = self._options(arguments, SAVED if persist else "none")
        options["cell"] = safe_id(cell_id)
        options["wall_seconds"] = self._wall_seconds
        execution_id = stacks.execution_id(number, uuid.uuid4().hex)
        asked = Asked(capture, self._wall_seconds)
        return Run(Task(safe_id(notebook_id), execution_id, code, options), asked, notices)

    def clear(self, notebook_id: str | None, keep_imports: bool, clear_saved_state: bool) -> Question:
        """To forget what cells have made."""
        notebook_id = self._named(notebook_id)
        seed = self._seed(notebook_id)
        arguments = {"notebook": notebook_id, "seed": seed, "keep_imports": keep_imports}
        # What is left becomes the current checkpoint: nothing else would be restored.
        return self._question(notebook_id, "clear", arguments, SAVED if clear_saved_state else "none")

    def seed(self, notebook_id: str | None, seed: int) -> Question:
        """To begin the random numbers anew, here and in each worker that the notebook gets."""
        if not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"seed {seed}: random numbers begin with 0 to {LARGEST_SEED}")
        notebook_id = self._named(notebook_id)
        with self._lock:
            self._seeds[notebook_id] = seed
        return self._question(notebook_id, "seed", {"seed": seed}, SAVED)

    def variables(self, notebook_id: str | None) -> Question:
        """What there is."""
        return self._question(self._named(notebook_id), "variables", {})

    def variable(self, notebook_id: str | None, name: str) -> Question:
        """What is in one of them."""
        return self._question(self._named(notebook_id), "variable", {"name": name})

    def name_of(self, notebook_id: str | None) -> str:
        """cellblock's name for a notebook."""
        return safe_id(self._named(notebook_id))

    def keep(self, notebook_id: str | None, notices: list[Notice]) -> None:
        """Keeps what is to be told with the notebook's next cell."""
        if notices:
            with self._lock:
                self._known.setdefault(notebook_id or DEFAULT_NOTEBOOK, _Known()).notices += notices

    def forget(self, notebook_id: str | None, *, deleted: bool) -> None:
        """A notebook was closed, or deleted."""
        notebook_id = notebook_id or DEFAULT_NOTEBOOK
        with self._lock:
            self._known.pop(notebook_id, None)
            if deleted:
                self._seeds.pop(notebook_id, None)

    def _named(self, notebook_id: str | None) -> str:
        if notebook_id is not None:
            return notebook_id
        with self._lock:
            warn, self._has_warned = not self._has_warned, True
        if warn:
            text = f"without a notebook_id it is `{DEFAULT_NOTEBOOK}`, which all share who name none"
            warnings.warn(text, stacklevel=4)
        return DEFAULT_NOTEBOOK

    def _seed(self, notebook_id: str) -> int:
        with self._lock:
            return self._seeds.get(notebook_id, seed_of(notebook_id))

    def _question(
        self,
        notebook_id: str,
        deed: Deed,
        arguments: Mapping[str, object],
        checkpoint: Checkpointing = "none",
    ) -> Question:
        options = self._options({"do": deed, **arguments}, checkpoint)
        options["silent"] = True
        options["wall_seconds"] = QUESTION_SECONDS
        return Question(Task(safe_id(notebook_id), f"{deed}-{uuid.uuid4().hex}", "", options), deed)

    def _options(self, arguments: Mapping[str, object], checkpoint: Checkpointing) -> ExecuteOptions:
        # One caller's failure cancels nobody else's cell, and what a cell ends with is not shown.
        return ExecuteOptions(
            plugin=(PLUGIN, arguments),
            echo=False,
            store_history=False,
            stop_on_error=False,
            checkpoint=checkpoint,
        )
