"""The worker's side of the client's `ExecutionService`: what is around a cell when that asks for it.

A run begins with the notebook's initial names, its seed, its folder and its cell checked; it is captured
while it goes on; and what it leaves behind is captured at its end. The code itself is run by the one engine,
as it is written: no source is changed but by the autofix that was asked for. What is computed from results
(statistical warnings, tables in printed text, the text of a traceback) is the client's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core import display_functions

from cellblock_worker import bundle
from cellblock_worker.attribution import current_execution
from cellblock_worker.plugins import Refused

from . import contents, publishing, variables
from .capture import Capture
from .helpers import make_display
from .hints import explain
from .namespace import SEED, InitialNames
from .remains import capture_remains
from .run_warnings import RunWarnings
from .seeds import Seeds
from .sending import send
from .source import prepare

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell
    from cellblock_worker.stdin import Stdin

REPORT = "application/vnd.cellblock.report+json"
ANSWER = "application/vnd.cellblock.answer+json"


class ExecutionService:
    """One per worker, so one per notebook."""

    def __init__(self, shell: Shell, stdin: Stdin) -> None:
        self._shell = shell
        self._stdin = stdin
        self._capture = Capture(shell)
        self._seeds = Seeds()
        self._warnings = RunWarnings(shell)
        # What the run has displayed, for user code that looks.
        self._results: list[dict[str, Any]] = []
        display = make_display(self._capture, display_functions.display, self._results)
        self._names = InitialNames(shell, display)
        self._names.bind()
        publishing.install(shell, self._capture)
        publishing.replace_display(display)
        shell.events.register("pre_execute", self._before_any_code)
        self._tasks: dict[str, Callable[[dict[str, Any]], Any]] = {
            "clear": self._clear,
            "seed": self._seed,
            "variables": self._variables,
            "variable": self._variable,
        }

    def begin(self, arguments: dict[str, Any], code: str) -> str:
        """Before the code: the code to run. Raises `Refused` when it must not be run."""
        task = _argument(arguments, "do", str)
        try:
            if task == "run":
                return self._begin_run(arguments, code)
            if task not in self._tasks:
                raise Refused("BadArguments", f"`do` is run, {', '.join(self._tasks)}; not {task[:80]!r}")
            send(self._shell.outputs, {ANSWER: bundle.json_text(self._tasks[task](arguments))})
        except BaseException:
            self._leave()
            raise
        return ""

    def end(self, error: BaseException | None) -> None:
        """After the code: captures what the run has left behind, and leaves it."""
        # An interrupt may fall into this: then the rest is left out, and the run has still ended as it did.
        try:
            if self._capture.run is not None:
                interrupted = self._shell.interrupts.delivered
                capture_remains(self._shell, self._capture, interrupted=interrupted)
        except (KeyboardInterrupt, Exception) as failure:
            self._shell.outputs.notice(f"not all that the run made was captured: {type(failure).__name__}")
        finally:
            with contextlib.suppress(KeyboardInterrupt, Exception), self._shell.interrupts.hold():
                self._leave()

    # Runs.

    def _begin_run(self, arguments: dict[str, Any], code: str) -> str:
        seed, number = _argument(arguments, "seed", int), _argument(arguments, "cell", int)
        autofix, captures = _argument(arguments, "autofix", bool), _argument(arguments, "capture", bool)
        shell = self._shell
        self._enter_workspace()
        if self._seeds.seed is None:
            if shell.is_restored:
                self._seeds.resume(seed)
                self._names.set_hidden(SEED, seed)
            else:
                self._set_seed(seed)
        self._results.clear()
        self._capture.begin(captures=captures)
        self._warnings.begin(current_execution(), number)
        self._stdin.at_end = True
        if not shell.custom_exceptions:
            shell.set_custom_exc((ModuleNotFoundError,), _show_with_hint)
        self._names.load_mentioned(code)
        prepared = prepare(code, autofix=autofix, namespace=shell.user_ns, transform=shell.transform_ahead)
        report = {
            "lint_report": prepared.lint_report,
            "autofix_report": prepared.autofix_report,
            "refused": prepared.refused,
        }
        send(shell.outputs, {REPORT: bundle.json_text(report)})
        if prepared.refused is not None:
            raise Refused("ValidationError", str(prepared.refused["message"]))
        return prepared.code

    def _leave(self) -> None:
        """A run is over; it may be called when none is on."""
        shell = self._shell
        if self._capture.run is not None:
            self._capture.run = None
            self._capture.pyplot.close()
        self._warnings.end()
        self._stdin.at_end = False
        if shell.custom_exceptions == (ModuleNotFoundError,):
            shell.set_custom_exc((), None)

    def _before_any_code(self) -> None:
        if self._capture.run is None:
            self._capture.other_code_ran = True
            self._capture.pyplot.hand_back()

    def _enter_workspace(self) -> None:
        # A cell may have removed what it was in.
        with contextlib.suppress(OSError):
            os.chdir(self._shell.starting_dir)
            data = Path("data")
            if not data.is_dir():
                data.mkdir()

    def _set_seed(self, seed: int) -> None:
        self._seeds.set(seed)
        self._names.set_hidden(SEED, seed)

    # What runs no code.

    def _clear(self, arguments: dict[str, Any]) -> Any:
        seed, keep_imports = _argument(arguments, "seed", int), _argument(arguments, "keep_imports", bool)
        self._capture.pyplot.close()
        self._names.clear(keep_imports=keep_imports)
        self._capture.restart_numbers()
        self._set_seed(seed)
        self._enter_workspace()
        return {}

    def _seed(self, arguments: dict[str, Any]) -> Any:
        self._set_seed(_argument(arguments, "seed", int))
        return {}

    def _variables(self, _: dict[str, Any]) -> Any:
        return variables.info(self._shell)

    def _variable(self, arguments: dict[str, Any]) -> Any:
        return contents.content(self._shell, _argument(arguments, "name", str))


def _argument(arguments: Any, name: str, kind: type) -> Any:
    value = arguments.get(name) if isinstance(arguments, dict) else None
    if type(value) is not kind:
        raise Refused("BadArguments", f"the argument `{name}` must be of type {kind.__name__}")
    return value


def _show_with_hint(shell: Any, etype: Any, value: Any, tb: Any, tb_offset: int | None = None) -> None:
    explain(value)
    shell.showtraceback((etype, value, tb), tb_offset=tb_offset)
