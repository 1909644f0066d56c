"""How an Execution ended, in the old service's words: a status, an error's type and its message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cellblock._outcome import (
    Cancelled,
    Interrupted,
    LimitHit,
    Ok,
    Outcome,
    Raised,
    TimedOut,
    WorkerDied,
)

from .result import ExecutionStatus

_NAMES_SHOWN: Final = 20
_UNITS: Final = {"cpu": "ms", "processes": "processes"}


@dataclass(frozen=True, slots=True)
class Ending:
    """What a result says of its end; `sentence` is for people, `name` and `value` are the traceback's."""

    status: ExecutionStatus
    sentence: str
    name: str | None = None
    value: str = ""
    limit: dict[str, Any] | None = None


def ending_of(outcome: Outcome) -> Ending:
    """The ending that an Outcome is."""
    fate = fate_of(outcome.lost)
    match outcome.end:
        case Ok():
            return Ending(ExecutionStatus.SUCCESS, "the code ran to its last line")
        case Raised(name, value):
            return Ending(ExecutionStatus.ERROR, f"the code raised {name}; {fate}", name, value)
        case TimedOut(seconds):
            sentence = f"the cell was stopped: {outcome.end}; {fate}"
            limit = _limit("wall", seconds, outcome.wall_seconds, "s")
            return Ending(ExecutionStatus.ERROR, sentence, "TimeoutError", sentence, limit)
        case LimitHit(name, allowed, reached):
            sentence = f"the cell was stopped: {outcome.end}; {fate}"
            limit = _limit(name, allowed, reached, _UNITS.get(name, "bytes"))
            kind = "MemoryError" if name == "memory" else "ResourceLimitError"
            return Ending(ExecutionStatus.ERROR, sentence, kind, sentence, limit)
        case WorkerDied():
            sentence = f"{outcome.end}; {fate}"
            return Ending(ExecutionStatus.ERROR, sentence, "WorkerDied", sentence)
        case Interrupted():
            sentence = f"the cell was interrupted; {fate}"
            return Ending(ExecutionStatus.CANCELLED, sentence, "KeyboardInterrupt", sentence)
        case Cancelled(reason):
            sentence = f"the cell was not run: {reason}"
            return Ending(ExecutionStatus.CANCELLED, sentence, "Cancelled", sentence)


def fate_of(lost: tuple[str, ...] | None) -> str:
    """What became of the variables."""
    if lost is None:
        return "the variables are kept"
    if not lost:
        return "the next cell gets a new worker; there were no variables to lose"
    shown = ", ".join(lost[:_NAMES_SHOWN])
    more = f" and {len(lost) - _NAMES_SHOWN} more" if len(lost) > _NAMES_SHOWN else ""
    return f"the next cell gets a new worker with what is saved; gone with this one: {shown}{more}"


def _limit(name: str, allowed: float, reached: float, unit: str) -> dict[str, Any]:
    return {"name": name, "allowed": allowed, "reached": reached, "unit": unit}
