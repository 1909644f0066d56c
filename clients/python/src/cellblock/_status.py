"""What cellblockd knows: notebooks, their workers, the host; and the answers an editor asks for."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from types import NoneType
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

from ._exceptions import ProtocolError
from ._fields import Fields, unknown
from ._messages import Bundle, parse_bundle
from ._names import NameInfo, parse_name

WorkerState: TypeAlias = Literal["none", "starting", "idle", "busy", "ending", "waiting"]
BarrierState: TypeAlias = Literal["enforced", "degraded", "missing"]
Completeness: TypeAlias = Literal["complete", "incomplete", "invalid", "unknown"]


@dataclass(frozen=True, slots=True)
class NotebookInfo:
    """A notebook in one line."""

    name: str
    profile: str
    state: WorkerState
    queued: int
    executions: int
    tenant: str | None = None
    pinned: bool = False
    """Its worker is not evicted."""
    evicted: bool = False
    """Its worker was evicted, and comes back with the next request."""
    idle_seconds: float | None = None
    """How long it has had nothing to do; None while it has."""
    memory_bytes: int | None = None
    """What its worker takes of memory, where that is known."""
    saved_whole: bool = False
    """Whether all variables there are were in the last checkpoint."""
    running_seconds: float | None = None
    """How long the Execution that runs has been running; None while none does."""
    cpu_seconds: float | None = None
    """Processor time that its worker has taken, where that is known."""


@dataclass(frozen=True, slots=True)
class BarrierReport:
    """One barrier of a sandbox: whether it holds, and by what or why not."""

    barrier: str
    state: BarrierState
    detail: str


@dataclass(frozen=True, slots=True)
class NotebookStatus:
    """A notebook in full. `report` is what the worker's sandbox really enforces."""

    info: NotebookInfo
    running: str | None
    queue: tuple[str, ...]
    names: tuple[NameInfo, ...]
    worker_pid: int | None
    python: str | None
    report: tuple[BarrierReport, ...] | None
    made_seconds: float | None
    """How long it took to make the worker's sandbox, without the start of Python."""
    forked: bool | None
    """Whether the worker was forked from a zygote; else its Python was executed."""
    not_forked: str | None
    """Why it was executed although its profile asks for a zygote."""


@dataclass(frozen=True, slots=True)
class DoctorLine:
    """What the host can enforce, and the command that mends it when one does."""

    name: str
    state: BarrierState
    detail: str
    cure: str | None


@dataclass(frozen=True, slots=True)
class Match:
    """A completion; `kind` is `function`, `instance`, …, empty when unknown."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Completions:
    """Candidates for the text between `start` and `end`, in code points, best first."""

    matches: tuple[Match, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class IsComplete:
    """Whether code is a whole statement, and how far to indent the next line if not."""

    status: Completeness
    indent: str


class VariableInfo(NamedTuple):
    """A variable with its value in short. `shape` and `preview` are None where only user code could tell,
    and while an Execution runs."""

    name: str
    kind: str
    """Its type as Python writes it, e.g. `pandas.DataFrame`."""
    size_bytes: int | None
    """Its size where that is cheap to know."""
    shape: tuple[int, ...] | None
    """Rows and columns of a table, the dimensions of an array, the length of a container."""
    preview: str | None
    """The value in Python's notation, shortened."""
    columns: tuple[tuple[str, str], ...]
    """The first hundred columns of a table: (name, type)."""


def parse_notebook(fields: Fields) -> NotebookInfo:
    """A notebook in one line."""
    state = fields.text("state")
    if state not in get_args(WorkerState):
        raise unknown("worker state", state)
    return NotebookInfo(
        name=fields.text("notebook"),
        profile=fields.text("profile"),
        state=cast(WorkerState, state),
        queued=fields.integer("queued"),
        executions=fields.integer("executions"),
        tenant=fields.optional_text("tenant"),
        pinned=fields.optional_flag("pinned"),
        evicted=fields.optional_flag("evicted"),
        idle_seconds=fields.optional_seconds("idle_ms"),
        memory_bytes=fields.optional_integer("memory_bytes"),
        saved_whole=fields.optional_flag("saved_whole"),
        running_seconds=fields.optional_seconds("running_ms"),
        cpu_seconds=fields.optional_seconds("cpu_ms"),
    )


def parse_status(fields: Fields) -> NotebookStatus:
    """A notebook in full."""
    report = fields.optional_fields("report")
    start, told = ("", None) if report is None else report.variant("start")
    fallback = Fields("fallback", {} if told is None else told)
    return NotebookStatus(
        info=parse_notebook(fields.fields("info")),
        running=fields.optional_text("running"),
        queue=fields.texts("queue"),
        names=fields.structs("names", parse_name),
        worker_pid=fields.optional_integer("worker_pid"),
        python=fields.optional_text("python"),
        report=None if report is None else report.structs("barriers", _barrier),
        made_seconds=None if report is None else (report.optional_integer("made_us") or 0) / 1e6,
        forked=None if report is None else start == "zygote",
        not_forked=fallback.text("why") if start == "fallback" else None,
    )


def parse_doctor_line(fields: Fields) -> DoctorLine:
    """A line of `doctor`."""
    state = _barrier_state(fields.text("state"))
    return DoctorLine(fields.text("name"), state, fields.text("detail"), fields.optional_text("cure"))


def parse_completions(fields: Fields, _payload: bytes) -> Completions:
    """The answer to `complete`."""
    matches = fields.structs("matches", lambda item: Match(item.text("text"), item.text("kind")))
    return Completions(matches, fields.integer("start"), fields.integer("end"))


def parse_inspection(fields: Fields, payload: bytes) -> Bundle | None:
    """The answer to `inspect`; None when nothing was found."""
    bundle = fields.optional_fields("bundle")
    return None if bundle is None else parse_bundle(bundle, payload)


def parse_is_complete(fields: Fields, _payload: bytes) -> IsComplete:
    """The answer to `is_complete`."""
    status = fields.text("status")
    if status not in ("complete", "incomplete", "invalid", "unknown"):
        raise unknown("completeness", status)
    return IsComplete(cast(Completeness, status), fields.text("indent"))


def parse_history(fields: Fields, _payload: bytes) -> tuple[tuple[int, str], ...]:
    """The answer to `history`: (execution count, input), oldest first."""
    return tuple(_input(item) for item in fields.items("inputs"))


def parse_variables(fields: Fields, _payload: bytes) -> tuple[VariableInfo, ...]:
    """The answer to `variables`, sorted by name."""
    return tuple(map(_variable, fields.items("variables")))


def _variable(item: Any) -> VariableInfo:
    # Asked for after each cell, and there are many: one look at all fields instead of one at each.
    try:
        name, kind, size, shape, preview, columns = _VARIABLE(item)
        if (
            type(name) is str
            and type(kind) is str
            and type(size) in (int, NoneType)
            and (shape is None or all(type(length) is int for length in shape))
            and type(preview) in (str, NoneType)
            and all(type(label) is str is type(dtype) for label, dtype in columns)
        ):
            pairs = tuple(map(tuple, columns))
            return VariableInfo(name, kind, size, None if shape is None else tuple(shape), preview, pairs)
    except (TypeError, ValueError, LookupError):
        pass
    raise ProtocolError("an entry of the variables is not one")


_VARIABLE = itemgetter("name", "kind", "bytes", "shape", "preview", "columns")


def _input(item: object) -> tuple[int, str]:
    match item:
        case [int(count), str(code)]:
            return count, code
        case _:
            raise ProtocolError("an entry of the history is not (count, input)")


def _barrier(fields: Fields) -> BarrierReport:
    return BarrierReport(fields.text("barrier"), _barrier_state(fields.text("state")), fields.text("detail"))


def _barrier_state(state: str) -> BarrierState:
    if state not in ("enforced", "degraded", "missing"):
        raise unknown("barrier state", state)
    return cast(BarrierState, state)
