"""The one end of an Execution: how it ended, whether the variables survived, what it did to them."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, cast

from ._checkpoints import Checkpoint, parse_checkpoint
from ._exceptions import ExecutionFailed
from ._fields import Fields, unknown, variant
from ._messages import Bundle, Error, Output, Stream, parse_bundle
from ._names import NameInfo, parse_name

LimitName: TypeAlias = Literal["memory", "cpu", "processes", "disk", "output"]
_LIMITS: tuple[str, ...] = ("memory", "cpu", "processes", "disk", "output")


@dataclass(frozen=True, slots=True)
class Ok:
    """To its last line."""

    kind: ClassVar[str] = "ok"

    def __str__(self) -> str:
        return "ok"


@dataclass(frozen=True, slots=True)
class Raised:
    """With an exception."""

    kind: ClassVar[str] = "error"
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name}: {self.value}" if self.value else self.name


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The wall time was over."""

    kind: ClassVar[str] = "timed_out"
    limit_seconds: float

    def __str__(self) -> str:
        return f"the wall time of {self.limit_seconds:g} s was over"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Somebody asked for it."""

    kind: ClassVar[str] = "interrupted"

    def __str__(self) -> str:
        return "interrupted"


@dataclass(frozen=True, slots=True)
class LimitHit:
    """A limit of the profile was reached; both numbers in the limit's own unit."""

    kind: ClassVar[str] = "limit_hit"
    limit: LimitName
    allowed: int
    reached: int

    def __str__(self) -> str:
        unit = {"cpu": "ms of processor time", "processes": "processes"}.get(
            self.limit, f"bytes of {self.limit}"
        )
        return f"limit hit: {self.reached} {unit}, {self.allowed} are allowed"


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The worker ended under it: by itself (`code`), by a signal, or ended by cellblock (`detail`)."""

    kind: ClassVar[str] = "worker_died"
    cause: Literal["exited", "signalled", "ended", "shim_lost", "protocol"]
    code: int | None = None
    signal: int | None = None
    detail: str | None = None

    def __str__(self) -> str:
        match self.cause:
            case "exited":
                return f"the worker exited with code {self.code}"
            case "signalled":
                return f"the worker was ended by {_signal_name(self.signal)}"
            case "ended":
                return f"the worker was ended: {self.detail}"
            case "shim_lost":
                return "the worker's shim is gone, and the worker with it"
            case "protocol":
                return f"the worker broke the protocol: {self.detail}"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """It never began."""

    kind: ClassVar[str] = "cancelled"
    reason: str

    def __str__(self) -> str:
        return f"cancelled: {self.reason}"


End: TypeAlias = Ok | Raised | TimedOut | Interrupted | LimitHit | WorkerDied | Cancelled


@dataclass(frozen=True, slots=True)
class NameChanges:
    """What an Execution did to the names; a change inside an object is not seen here."""

    added: tuple[NameInfo, ...]
    changed: tuple[NameInfo, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExpressionError:
    """A `user_expressions` entry that raised."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What an Execution took of the machine, all its processes together; all 0 when the code never began."""

    cpu_seconds: float
    memory_peak_bytes: int
    """The most that was in use at once, what was there before included."""
    written_bytes: int
    """To files on disk, the workspace's in effect."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an Execution ended."""

    end: End
    execution_count: int
    """`In [n]`; 0 when the code never began."""
    wall_seconds: float
    queued_seconds: float
    lost: tuple[str, ...] | None
    """The variables that went with the worker; None when all were kept, or are as they were before."""
    names: NameChanges
    expressions: dict[str, Bundle | ExpressionError]
    """The results of `user_expressions`."""
    usage: Usage
    checkpoint: Checkpoint | None = None
    """The checkpoint after it; None when none was to be taken."""
    worker_seconds: float | None = None
    """How long it waited for a worker that had to be started or brought back; None when there was one."""
    rolled_back: bool = False
    """The code was transactional and failed: the variables are as they were before it, in a new worker."""

    @property
    def ok(self) -> bool:
        """Whether the code ran to its last line."""
        return isinstance(self.end, Ok)

    @property
    def kind(self) -> str:
        """`ok`, `error`, `timed_out`, `interrupted`, `limit_hit`, `worker_died` or `cancelled`."""
        return self.end.kind

    @property
    def variables(self) -> Literal["kept", "lost", "rolled_back"]:
        """What became of the variables; `lost` has the names of those that went with the worker."""
        if self.rolled_back:
            return "rolled_back"
        return "kept" if self.lost is None else "lost"


@dataclass(frozen=True, slots=True)
class Completed:
    """A whole Execution: its outputs and its Outcome."""

    outputs: list[Output]
    outcome: Outcome

    @property
    def stdout(self) -> str:
        """All text on stdout."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """All text on stderr."""
        return self._text("stderr")

    @property
    def error(self) -> Error | None:
        """The exception that ended the code."""
        return next((output for output in self.outputs if isinstance(output, Error)), None)

    def raise_for_error(self) -> Completed:
        """Raises `ExecutionFailed` unless the code ran to its last line; returns itself."""
        if not self.outcome.ok:
            raise ExecutionFailed(str(self.outcome.end), outcome=self.outcome, error=self.error)
        return self

    def _text(self, name: str) -> str:
        # Joined first, decoded then: a program may write a character in two pieces.
        streams: Iterable[Stream] = (output for output in self.outputs if isinstance(output, Stream))
        data = b"".join(stream.data for stream in streams if stream.name == name)
        return data.decode("utf-8", "replace")


def parse_outcome(fields: Fields, payload: bytes) -> Outcome:
    """An Outcome from its JSON; the bytes of its expressions lie in the payload."""
    names = fields.fields("names")
    variables = fields.variant("variables")
    return Outcome(
        end=_end(*fields.variant("end")),
        execution_count=fields.integer("execution_count"),
        wall_seconds=fields.integer("wall_us") / 1e6,
        queued_seconds=fields.integer("queued_us") / 1e6,
        lost=_lost(*variables),
        names=NameChanges(
            added=names.structs("added", parse_name),
            changed=names.structs("changed", parse_name),
            removed=names.texts("removed"),
        ),
        expressions=dict(fields.structs("expressions", lambda item: _expression(item, payload))),
        usage=_usage(fields.optional_fields("usage")),
        checkpoint=_checkpoint(fields.optional_variant("checkpoint")),
        worker_seconds=_seconds(fields.optional_integer("worker_ms")),
        rolled_back=variables[0] == "rolled_back",
    )


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _checkpoint(found: tuple[str, object] | None) -> Checkpoint | None:
    return None if found is None else parse_checkpoint(*found)


def _usage(fields: Fields | None) -> Usage:
    if fields is None:
        return Usage(0.0, 0, 0)
    return Usage(
        cpu_seconds=fields.integer("cpu_us") / 1e6,
        memory_peak_bytes=fields.integer("memory_peak_bytes"),
        written_bytes=fields.integer("written_bytes"),
    )


def _end(name: str, content: object) -> End:
    if name == "worker_died":
        return _death(*variant("worker_died", content))
    fields = Fields(name, content)
    match name:
        case "ok":
            return Ok()
        case "error":
            return Raised(fields.text("name"), fields.text("value"))
        case "timed_out":
            return TimedOut(fields.integer("limit_ms") / 1e3)
        case "interrupted":
            return Interrupted()
        case "limit_hit":
            limit = fields.text("limit")
            if limit not in _LIMITS:
                raise unknown("limit", limit)
            return LimitHit(cast(LimitName, limit), fields.integer("allowed"), fields.integer("reached"))
        case "cancelled":
            return Cancelled(fields.text("reason"))
        case _:
            raise unknown("end of an Execution", name)


def _death(name: str, content: object) -> WorkerDied:
    fields = Fields(name, content)
    match name:
        case "exited":
            return WorkerDied("exited", code=fields.integer("code"))
        case "signalled":
            return WorkerDied("signalled", signal=fields.integer("signal"))
        case "ended":
            return WorkerDied("ended", detail=fields.text("reason"))
        case "shim_lost":
            return WorkerDied("shim_lost")
        case "protocol":
            return WorkerDied("protocol", detail=fields.text("detail"))
        case _:
            raise unknown("end of a worker", name)


def _lost(name: str, content: object) -> tuple[str, ...] | None:
    match name:
        case "kept" | "rolled_back":
            return None
        case "lost":
            return Fields(name, content).texts("names")
        case _:
            raise unknown("state of the variables", name)


def _expression(fields: Fields, payload: bytes) -> tuple[str, Bundle | ExpressionError]:
    name, (kind, content) = fields.text("name"), fields.variant("result")
    result = Fields(kind, content)
    match kind:
        case "value":
            return name, parse_bundle(result, payload)
        case "error":
            return name, ExpressionError(result.text("name"), result.text("value"))
        case _:
            raise unknown("result of an expression", kind)


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"
