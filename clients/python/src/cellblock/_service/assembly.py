"""From the outputs of an Execution to its result.

`take` is cheap and only keeps what is still to be seen: what the code clears or updates is dropped unread.
Everything is read at the end, once. A part that is not what it should be costs that part and makes a
notice; nothing that a worker sends is an exception here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from cellblock._messages import Bundle, ClearOutput, Display, Error, Notice, Output, Result, Stream, Truncated
from cellblock._outcome import Outcome, Raised

from . import reports, stacks
from .artefacts import Artefact, Budget, artefact_of, is_captured
from .captured import CapturedText
from .endings import Ending, ending_of
from .plain import Malformed, well_formed
from .reports import Refusal, Report, parse_report
from .result import ExecutionResult, ExecutionStatus
from .saved import checkpoint_dict
from .statistics import warnings_of
from .stdout_tables import parse as parse_stdout_tables

DISPLAYS: Final = 2_000
"""Tables, figures and other displays that a result has at most."""
PIECES: Final = 10_000
"""Pieces whose order is told; text after them belongs to the last one of its stream."""
NOTICES: Final = 100
_TRACE_TITLE: Final = "\n\nFULL PYTHON STACK TRACE:\n"

StreamName: TypeAlias = Literal["stdout", "stderr"]


@dataclass(slots=True)
class _Piece:
    """Text of a stream, from one position to another."""

    stream: StreamName
    start: int
    end: int


@dataclass(slots=True)
class _Shown:
    """Something displayed; what it shows changes with an update."""

    bundle: Bundle


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller asked for, as far as the result depends on it."""

    capture: bool
    wall_seconds: float | None


class Assembly:
    """One Execution's outputs, as far as they came."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._report: Bundle | None = None
        self._error: Error | None = None
        self._notices: list[dict[str, Any]] = []
        self._displays_left_out = 0
        self._clear_is_due = False
        self._weight = 0
        self._clear()

    @property
    def weight(self) -> int:
        """Bytes that `result` has to look at."""
        return self._weight

    def take(self, output: Output) -> None:
        """Takes the next output."""
        match output:
            case Stream():
                self._clear_if_due()
                self._text(output.name, output.data)
            case Display() | Result():
                self._display(output)
            case Error():
                self._show_error()
                self._error = output
            case ClearOutput(_, wait):
                if wait:
                    self._clear_is_due = True
                else:
                    self._clear()
            case Truncated():
                self._gap(output)
            case Notice():
                self._notice(output.topic, output.text, output.names)
            case _:
                pass  # Nobody is asked for input here.

    def result(self, outcome: Outcome, started: datetime) -> ExecutionResult:
        """The result; to be called once."""
        ending = ending_of(outcome)
        report = self._read_report()
        if not (isinstance(outcome.end, Raised) and outcome.end.name == Refusal.error_type):
            report = dataclasses.replace(report, refusal=None)
        error = self._ending_error(outcome)
        self._finish_texts()
        result = ExecutionResult(
            status=ending.status,
            stdout=self._texts["stdout"].text(),
            stderr=self._texts["stderr"].text(),
            timestamp=started,
            lint_report=report.lint,
            autofix_report=report.autofix,
        )
        self._add_artefacts(result)
        if self._asked.capture:
            result.tables += parse_stdout_tables(result.stdout)
            result.warnings = warnings_of(result.stdout, result.tables)
        self._add_ending(result, ending, error, report.refusal)
        self._add_outcome(result, ending, outcome)
        result.notices = self._notices
        return result

    # What comes.

    def _display(self, output: Display | Result) -> None:
        bundle = output.bundle
        if reports.MIME in bundle:
            # The plug-in sends it before the code runs; whatever looks like one later is the cell's.
            if self._report is None:
                self._report = bundle
                self._weight += len(bundle[reports.MIME])
            return
        if not self._asked.capture:
            return
        if not is_captured(bundle):
            self._clear_if_due()
        self._weight += sum(map(len, bundle.parts.values()))
        display_id = output.display_id if isinstance(output, Display) else None
        if isinstance(output, Display) and output.update:
            if display_id in self._by_id:
                self._by_id[display_id].bundle = bundle
            return
        if self._displays >= DISPLAYS:
            self._displays_left_out += 1
            return
        self._displays += 1
        shown = _Shown(bundle)
        self._order.append(shown)
        if display_id is not None:
            self._by_id[display_id] = shown

    def _text(self, name: StreamName, data: bytes) -> None:
        text = self._texts[name]
        self._weight += len(data)
        start = text.length
        text.write(data)
        self._piece(name, start)

    def _piece(self, name: StreamName, start: int) -> None:
        end = self._texts[name].length
        if end == start:
            return
        last = self._last_pieces.get(name)
        if last is not None and (self._order[-1] is last or len(self._order) >= PIECES):
            last.end = end
        else:
            self._last_pieces[name] = piece = _Piece(name, start, end)
            self._order.append(piece)

    def _finish_texts(self) -> None:
        for name, text in self._texts.items():
            start = text.length
            text.finish()
            self._piece(name, start)

    def _gap(self, gap: Truncated) -> None:
        sentence = f"{gap.dropped_bytes} bytes are left out here: {gap.reason}"
        if gap.stream is None:
            self._notice("degraded", f"{gap.dropped_bytes} bytes of displays are left out: {gap.reason}")
            return
        start = self._texts[gap.stream].length
        self._texts[gap.stream].remark(sentence)
        self._piece(gap.stream, start)

    def _show_error(self) -> None:
        """An error that did not end the cell was shown by it (`%tb`): that is text."""
        if self._error is not None:
            text = stacks.traceback_text(self._error, self._error.name, self._error.value)
            self._text("stderr", text.encode(errors="replace"))
            self._error = None

    def _clear_if_due(self) -> None:
        if self._clear_is_due:
            self._clear()

    def _clear(self) -> None:
        self._clear_is_due = False
        self._texts: dict[StreamName, CapturedText] = {"stdout": CapturedText(), "stderr": CapturedText()}
        self._order: list[_Piece | _Shown] = []
        self._last_pieces: dict[StreamName, _Piece] = {}
        self._by_id: dict[str | None, _Shown] = {}
        self._displays = 0

    def _notice(self, topic: str, text: str, names: Sequence[str] = ()) -> None:
        if len(self._notices) < NOTICES:
            self._notices.append({"topic": topic, "text": well_formed(text), "names": list(names)})

    # What is made of it.

    def _read_report(self) -> Report:
        if self._report is None:
            return Report()
        try:
            return parse_report(Budget().parse(self._report[reports.MIME]).value)
        except Malformed as fault:
            self._notice("degraded", f"the report on the code is left out: {fault}")
            return Report()

    def _ending_error(self, outcome: Outcome) -> Error | None:
        """The Error output that the end stands for, if there is one."""
        is_the_end = not outcome.ok
        if isinstance(outcome.end, Raised):
            is_the_end = self._error is not None and self._error.name == outcome.end.name
        if not is_the_end:
            self._show_error()
        return self._error

    def _add_artefacts(self, result: ExecutionResult) -> None:
        budget = Budget()
        artefacts: dict[int, Artefact] = {}
        for at, shown in enumerate(self._order):
            if isinstance(shown, _Shown):
                try:
                    artefacts[at] = artefact_of(shown.bundle, budget)
                except Malformed as fault:
                    self._notice("degraded", f"a display is left out: {fault}")
        if self._displays_left_out:
            text = f"{self._displays_left_out} displays are left out: a cell's result has {DISPLAYS} at most"
            self._notice("degraded", text)

        def entries(*places: str, source: str | None = None) -> list[tuple[int, dict[str, Any]]]:
            return [
                (at, artefact.entry)
                for at, artefact in artefacts.items()
                if artefact.place in places and source in (None, artefact.entry["source"])
            ]

        lists = {
            "tables": entries("table") + entries("display") + entries("variable"),
            "plots": entries("plot", source="display") + entries("plot", source="auto-captured"),
            "interactive_plots": entries("interactive"),
        }
        found: dict[int, dict[str, Any]] = {}
        for name, members in lists.items():
            getattr(result, name).extend(entry for _, entry in members)
            found |= {at: {"field": name, "index": index} for index, (at, _) in enumerate(members)}
        for at, item in enumerate(self._order):
            if isinstance(item, _Piece):
                start, end = self._texts[item.stream].place(item.start, item.end)
                if start < end:
                    result.outputs.append({"field": item.stream, "start": start, "end": end})
            elif at in found:
                result.outputs.append(found[at])

    def _add_ending(
        self, result: ExecutionResult, ending: Ending, error: Error | None, refusal: Refusal | None
    ) -> None:
        if ending.name is None:
            return
        result.error_type, result.error_message = ending.name, ending.value
        if refusal is not None:
            result.error_message = refusal.message
            result.stderr, result.traceback = refusal.stderr, refusal.traceback
            result.syntax_error = refusal.syntax_error
            return
        if error is None:
            result.traceback = stacks.headline(ending.name, ending.value) + "\n"
        else:
            result.traceback = stacks.traceback_text(error, ending.name, ending.value)
            result.frames = stacks.frame_dicts(error)
        if ending.status is ExecutionStatus.ERROR:
            result.stderr += _TRACE_TITLE + result.traceback

    def _add_outcome(self, result: ExecutionResult, ending: Ending, outcome: Outcome) -> None:
        lost = None if outcome.lost is None else list(outcome.lost)
        result.outcome = {
            "kind": outcome.kind,
            "sentence": ending.sentence,
            "limit": ending.limit,
            "lost": lost,
        }
        if outcome.checkpoint is not None:
            result.checkpoint = checkpoint_dict(outcome.checkpoint)
        usage = dataclasses.asdict(outcome.usage)
        result.limits = {
            "wall_seconds": self._asked.wall_seconds,
            "usage": {
                "wall_seconds": outcome.wall_seconds,
                "queued_seconds": outcome.queued_seconds,
                **usage,
            },
        }
