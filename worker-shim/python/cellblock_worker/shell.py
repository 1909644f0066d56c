"""IPython's InteractiveShell as the engine, without ipykernel.

What ipykernel would do is the yardstick; where this differs, the comment says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from IPython.core.autocall import ExitAutocall
from IPython.core.compilerop import CachingCompiler
from IPython.core.error import UsageError
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell, InteractiveShellABC
from traitlets import Instance, Type, default
from traitlets.config import Config

from . import commands, errors, tracebacks
from .attribution import current_execution
from .interrupt import Interrupts
from .publish import Formatter, Outputs, Publisher, ResultHook

# Inputs kept for the History query, and as `_i7`.
INPUTS = 1_000
INPUT_CHARACTERS = 1 << 20

# Where IPython's own syntax can stand: a line that begins with an escape or a prompt, `= %` and
# `= !`, any `?`. A cell without these, not indented and of several lines, is Python as it stands,
# and transforming it costs 40 % of a long cell's time.
_SPECIAL = re.compile(r"\?|^[ \t]*(?:[%!,;/]|>>>|\.\.\.|In \[)|=[ \t]*[%!]|[\f\r\v]", re.MULTILINE)

# Matplotlib's, whose figures are drawn by a page that stays connected.
_LIVE_BACKENDS = frozenset(["ipympl", "nbagg", "notebook", "widget"])


class Compiler(CachingCompiler):  # type: ignore[misc]
    """Gives each run's code a file name of its own, and remembers whose it is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cells: dict[str, tuple[str, int]] = {}
        # Set by `begin`.
        self._directory = ""
        # Lines that the transformation of the current cell took from its beginning.
        self.leading_lines = 0

    def begin(self) -> None:
        """From here on names are those of this process."""
        # The shape of ipykernel's names: joblib and others recognise notebook code by it.
        self._directory = f"{tempfile.gettempdir()}/ipykernel_{os.getpid()}"

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        name = f"{self._directory}/{len(self._cells) + 1}.py"
        self._cells[name] = (current_execution(), self.leading_lines)
        return name

    def cell_of(self, file: str) -> tuple[str, int] | None:
        """The Execution whose code a file name stands for, and the lines missing before it."""
        return self._cells.get(file)


class MemoryHistory(HistoryManager):  # type: ignore[misc]
    """`In`, `_i`, `%history` in memory: no database, no thread."""

    def store_inputs(self, line_num: int, source: str, source_raw: str | None = None) -> None:
        super().store_inputs(line_num, source, source_raw)
        # What waits for a database that is not there.
        self.db_input_cache.clear()
        # `In` has them all. A name for each would make every look at the names longer, for ever.
        self.shell.user_ns.pop(f"_i{line_num - INPUTS}", None)
        self.shell.inputs.append((line_num, (source_raw or source)[:INPUT_CHARACTERS]))
        del self.shell.inputs[:-INPUTS]

    def get_tail(
        self, n: int = 10, raw: bool = True, output: bool = False, include_latest: bool = False
    ) -> Any:
        """For `%history -l`, which asks the database; here there is this session alone."""
        inputs = self.shell.inputs if include_latest else self.shell.inputs[:-1]
        for line, source in inputs[-n:] if n > 0 else []:
            yield 0, line, (source, self.output_hist_reprs.get(line)) if output else source

    def end_session(self) -> None:
        pass


class Exit(ExitAutocall):  # type: ignore[misc]
    """`exit` and `quit` are an error like `sys.exit()`: worker and variables stay."""

    def __call__(self, code: Any = None) -> None:
        raise SystemExit if code is None else SystemExit(code)


class Shell(InteractiveShell):  # type: ignore[misc]
    """One per worker."""

    displayhook_class = Type(ResultHook)
    display_pub_class = Type(Publisher)
    exiter = Instance(Exit)
    # Without readline there is nothing to indent or to mask.
    autoindent = False

    # Libraries look whether it is there to tell a notebook from a terminal: pandas would fold wide
    # frames at a terminal's width without it.
    kernel: Any = None

    # It began with what an earlier process had saved, its generators of random numbers among it.
    is_restored = False

    # Set by `make`, before the base class builds its parts.
    outputs: Outputs
    interrupts: Interrupts

    @default("exiter")  # type: ignore[untyped-decorator]
    def _default_exiter(self) -> Exit:
        return Exit(self)

    @classmethod
    def make(cls, outputs: Outputs, interrupts: Interrupts) -> Shell:
        """The shell of this process; `get_ipython()` finds it."""
        cls.outputs, cls.interrupts = outputs, interrupts
        config = Config()
        config.HistoryManager.enabled = False
        config.HistoryAccessor.enabled = False
        config.Completer.use_jedi = False
        config.IPCompleter.use_jedi = False
        # polars, transformers and others look for this section to tell a notebook from a terminal.
        config.IPKernelApp.name = "cellblock"
        shell: Shell = cls.instance(config=config)
        return shell

    def init_instance_attrs(self) -> None:
        self.inputs: list[tuple[int, str]] = []
        self.last_report: dict[str, Any] | None = None
        # Which exception was shown last in this run.
        self.shown = 0
        self.compiler_class = Compiler
        super().init_instance_attrs()
        self._untouched_transforms: tuple[int, ...] | None = None
        # (the cell, what was made of it, `leading_lines`)
        self._ahead: tuple[str, str, int] | None = None

    def init_display_formatter(self) -> None:
        self.display_formatter = Formatter(parent=self)
        self.configurables.append(self.display_formatter)

    def init_environment(self) -> None:
        # As ipykernel: colours in tools, no pagers.
        for name, value in (
            ("TERM", "xterm-color"),
            ("CLICOLOR", "1"),
            ("FORCE_COLOR", "1"),
            ("CLICOLOR_FORCE", "1"),
            ("PAGER", "cat"),
            ("GIT_PAGER", "cat"),
        ):
            os.environ[name] = value

    def init_magics(self) -> None:
        super().init_magics()
        # ipykernel loads this extension at start.
        if hasattr(self.magics_manager, "register_lazy"):
            self.magics_manager.register_lazy("store", "IPython.extensions.storemagic")

    def init_virtualenv(self) -> None:
        # The interpreter was chosen by the profile; its environment is none of the user's variables.
        pass

    def init_history(self) -> None:
        self.history_manager = MemoryHistory(shell=self, parent=self)
        self.configurables.append(self.history_manager)

    def init_hooks(self) -> None:
        super().init_hooks()
        # ipykernel sends pages (`obj?`) as payloads, which are no outputs: front ends ask `Inspect`.
        self.set_hook("show_in_pager", lambda _shell, _page, *_, **__: None, 99)

    def atexit_operations(self) -> None:
        # Nothing of the shell's outlives the sandbox.
        pass

    def enable_gui(self, gui: str | None = None) -> None:
        """Only the inline backend: there is no display."""
        if gui not in (None, "", "inline", "agg"):
            raise UsageError(f"there is no display here: cannot start the event loop of {gui!r}")

    def enable_matplotlib(self, gui: str | None = None) -> Any:
        """`%matplotlib`. The backends that draw in a live page draw inline."""
        if gui in _LIVE_BACKENDS:
            self.outputs.notice(f"figures are shown inline: `{gui}` needs a live front end")
            gui = "inline"
        return super().enable_matplotlib(gui)

    def ask_exit(self) -> None:
        """For whoever calls it by name."""
        raise SystemExit

    def set_next_input(self, s: str, replace: bool = False) -> None:
        """%load and %recall: a payload in Jupyter, which is no output."""

    # Cells.

    def arrive(self) -> None:
        """This process is where it will run cells. It was made elsewhere if a zygote has forked it."""
        self.compile.begin()
        self.starting_dir = str(Path.cwd())
        self.history_manager.dir_hist[:] = self.history_manager._dir_hist_default()

    def transformed(self, code: str) -> str:
        """The cell as Python, once: what was made of it ahead is taken."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == code:
            self.compile.leading_lines = ahead[2]
            return ahead[1]
        return self._transformed(code)

    def transform_ahead(self, code: str) -> str:
        """The cell as Python, for who looks at it before it is run."""
        cell = self._transformed(code)
        self._ahead = (code, cell, self.compile.leading_lines)
        return cell

    def _transformed(self, code: str) -> str:
        first = code.partition("\n")[0]
        self.compile.leading_lines = 0
        if (
            first[:1].strip()
            and "\n" in code.rstrip("\n")
            and not _SPECIAL.search(code)
            and self._transforms_untouched()
        ):
            return code if code.endswith("\n") else code + "\n"
        self.compile.leading_lines = _leading_blank_lines(code)
        cell: str = self.transform_cell(code)
        return cell

    def _transforms_untouched(self) -> bool:
        manager = self.input_transformer_manager
        state = (
            len(manager.cleanup_transforms),
            len(manager.line_transforms),
            len(manager.token_transformers),
            len(self.input_transformers_post),
        )
        if self._untouched_transforms is None:
            self._untouched_transforms = state
        return state == self._untouched_transforms

    def is_async(self, code: str, cell: str) -> bool:
        """Whether a transformed cell awaits at its top level."""
        # The real answer costs a compilation; without the words it is no.
        if "await" not in cell and "async" not in cell:
            return False
        return bool(self.should_run_async(code, transformed_cell=cell))

    def _logger_is_on(self) -> bool:
        logger = getattr(self, "_logger", None)
        return logger is not None and bool(logger.log_output)

    # Errors.

    def init_traceback_handlers(self, custom_exceptions: Any) -> None:
        super().init_traceback_handlers(custom_exceptions)
        tracebacks.give_lines(self.InteractiveTB)

    def showtraceback(
        self,
        exc_tuple: Any = None,
        filename: Any = None,
        tb_offset: int | None = None,
        exception_only: bool = False,
        running_compiled_code: bool = False,
    ) -> None:
        """Shows an exception as an error among the outputs, whatever IPython can make of it.

        The base class prints groups of exceptions, what it fails to format, and interrupts meanwhile.
        """
        try:
            etype, error, tb = self._get_exc_info(exc_tuple)
        except ValueError:
            etype = error = tb = None
        self.shown = id(error)
        if etype is None or etype is UsageError:
            # A line on stderr. (Not in the `except`, where there is an exception.)
            super().showtraceback(exc_tuple, filename, tb_offset, exception_only, running_compiled_code)
            return
        if self.interrupts.cancelled and issubclass(etype, asyncio.CancelledError):
            # How an interrupt reaches a cell that awaits.
            etype, error = KeyboardInterrupt, KeyboardInterrupt().with_traceback(tb)
        if issubclass(etype, SyntaxError):
            blocks = partial(
                self._syntax_blocks, etype, error, tb if running_compiled_code else None, filename
            )
        elif exception_only:
            blocks = partial(self._only_blocks, etype, error)
        else:
            blocks = partial(self._blocks, etype, error, tb, tb_offset)
        self._show(etype, error, blocks)
        if self.call_pdb:
            self.debugger(force=True)

    def showsyntaxerror(self, filename: Any = None, running_compiled_code: bool = False) -> None:
        etype, error, tb = self._get_exc_info()
        self.shown = id(error)
        shown = tb if running_compiled_code else None
        self._show(etype, error, partial(self._syntax_blocks, etype, error, shown, filename))

    def show_unless_shown(self, error: BaseException) -> None:
        """Shows what ended a cell, where nobody has: a debugger was left, a handler has failed."""
        if id(error) != self.shown and not issubclass(type(error), self.custom_exceptions):
            self.showtraceback((type(error), error, errors.own(error, "__traceback__")))

    def show_barely(self, error: BaseException) -> None:
        """Shows it without running code of the user's, which nothing could interrupt any more."""
        self._tell(errors.bare(type(error), error, self.compile.cell_of))

    def _blocks(self, etype: type, error: Any, tb: TracebackType | None, tb_offset: int | None) -> Any:
        formatter = self.InteractiveTB
        if hasattr(error, "_render_traceback_"):
            return error._render_traceback_()
        is_one = issubclass(type(error), BaseException)
        if is_one and formatter.mode != "Minimal" and not tracebacks.suits_ipython(error):
            offset = formatter.tb_offset if tb_offset is None else tb_offset
            return tracebacks.plain(error, tb, offset, self.compile.cell_of, self.compile.format_code_name)
        return formatter.structured_traceback(etype, error, tb, tb_offset=tb_offset)

    def _syntax_blocks(self, etype: type, error: Any, tb: TracebackType | None, filename: Any) -> Any:
        if filename and issubclass(etype, SyntaxError):
            with contextlib.suppress(AttributeError):
                error.filename = filename
        return self.SyntaxTB.structured_traceback(etype, error, traceback.extract_tb(tb) if tb else [])

    def _only_blocks(self, etype: type, error: Any) -> Any:
        only = self.InteractiveTB.get_exception_only(etype, error)
        return ["An exception has occurred, use %tb to see the full traceback.\n", *only]

    def _show(self, etype: type, error: Any, blocks: Callable[[], Any]) -> None:
        """Formatting runs code of the user's and takes its time: it can fail, and be interrupted."""
        interrupted, report = False, None
        try:
            report = self._report(etype, error, blocks())
        except BaseException as failure:
            interrupted = issubclass(type(failure), KeyboardInterrupt) and self.interrupts.delivered
        if report is None:
            with contextlib.suppress(KeyboardInterrupt), self.interrupts.hold():
                report = errors.bare(etype, error, self.compile.cell_of)
        self._tell(report)
        if interrupted:
            # Without what was being shown, or that would begin again.
            raise KeyboardInterrupt from None

    def _showtraceback(self, etype: type, evalue: BaseException, stb: Any) -> None:
        self._tell(self._report(etype, evalue, stb))

    def _report(self, etype: type, error: Any, blocks: Any) -> dict[str, Any]:
        texts = blocks if isinstance(blocks, (list, tuple)) else [blocks]
        texts = [errors.exact(str(block)) for block in texts]
        return errors.report(errors.name_of(etype), error, texts, self.compile.cell_of)

    def _tell(self, report: Any) -> None:
        if not self.outputs.is_open:
            os.write(2, ("\n".join(report["traceback"]) + "\n").encode("utf-8", "backslashreplace"))
            return
        self.last_report = report
        self.outputs.send({"error": report})

    def _user_obj_error(self) -> dict[str, Any]:
        """Of a user expression."""
        etype, error, _ = self._get_exc_info()
        name, value = errors.name_of(etype), errors.last_text_of(error)
        return {"status": "error", "ename": name, "evalue": value, "traceback": []}

    def _format_exception_for_storage(self, exception: BaseException, *_: Any, **__: Any) -> dict[str, Any]:
        # The base class formats the whole traceback a second time (6 ms).
        report = self.last_report
        return {
            "ename": errors.name_of(type(exception)),
            "evalue": report["value"] if report else "",
            "traceback": report["traceback"] if report else [],
        }

    # Commands.

    def system_piped(self, cmd: str) -> None:
        """`!cmd` and `%system`."""
        self.user_ns["_exit_code"] = code = commands.run(self.var_expand(cmd, depth=1))
        if code != 0 and getattr(self, "system_raise_on_error", False):
            from subprocess import CalledProcessError

            raise CalledProcessError(code, cmd)

    system = system_raw = system_piped


# pandas, rich and others look for this name, for the same reason.
Shell.__name__ = Shell.__qualname__ = "ZMQInteractiveShell"
InteractiveShellABC.register(Shell)


def _leading_blank_lines(code: str) -> int:
    for count, line in enumerate(code.splitlines()):
        if line.strip():
            return count
    return 0
