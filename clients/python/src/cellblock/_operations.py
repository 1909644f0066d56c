"""What operators see: the daemon, its tenants, all notebooks; and what happens to notebooks."""

from __future__ import annotations

from dataclasses import dataclass

from ._fields import Fields
from ._status import NotebookInfo, parse_notebook


@dataclass(frozen=True, slots=True)
class NotebookEvent:
    """Something that happened to a notebook.

    `kind` is `opened`, `closed`, `worker` (it does something else than before), `started`, `ended` (an
    Execution), `evicted` or `returned` (its worker).
    """

    kind: str
    notebook: str
    tenant: str
    execution: str | None = None
    """Which Execution it is about, of `started` and `ended`."""
    detail: str | None = None
    """The profile of `opened`, the state of `worker`, how it `ended` in one word, why it was `evicted`."""
    seconds: float | None = None
    """How long what `ended` ran, and what `returned` took."""
    deleted: bool = False
    """Whether the files of a `closed` one are gone too."""


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """The daemon in figures. A cap of 0 is none; what workers have taken of processors may not be known."""

    build: str
    pid: int
    uptime_seconds: float
    draining: bool
    workers: int
    max_workers: int
    running: int
    max_running: int
    waiting: int
    notebooks: int
    connections: int
    memory_bytes: int
    available_bytes: int
    cpu_seconds: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """The daemon and all notebooks of all tenants."""

    daemon: DaemonInfo
    notebooks: tuple[NotebookInfo, ...]


@dataclass(frozen=True, slots=True)
class Drained:
    """What was not over when the time of a drain was. The next daemon takes it back."""

    running: int
    waiting: int
    unsaved: int


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant uses, or may use; a cap of 0 is none."""

    running: int
    workers: int
    notebooks: int
    queued: int
    connections: int
    buffered_bytes: int


@dataclass(frozen=True, slots=True)
class TenantInfo:
    """A tenant in one line."""

    name: str
    uids: tuple[int, ...]
    operator: bool
    uses: TenantLimits
    limits: TenantLimits


def parse_notebook_event(kind: str, fields: Fields) -> NotebookEvent:
    """One of `events`."""
    detail = {"opened": "profile", "worker": "state", "ended": "end", "evicted": "reason"}.get(kind)
    seconds = None
    if kind == "ended":
        seconds = fields.integer("wall_us") / 1e6
    elif kind == "returned":
        seconds = fields.integer("took_ms") / 1e3
    return NotebookEvent(
        kind=kind,
        notebook=fields.text("notebook"),
        tenant=fields.text("tenant"),
        execution=fields.text("execution") if kind in ("started", "ended") else None,
        detail=fields.text(detail) if detail else None,
        seconds=seconds,
        deleted=kind == "closed" and fields.flag("deleted"),
    )


def parse_overview(fields: Fields) -> Overview:
    """The answer to `overview`."""
    daemon = fields.fields("daemon")
    return Overview(
        daemon=DaemonInfo(
            build=daemon.text("build"),
            pid=daemon.integer("pid"),
            uptime_seconds=daemon.integer("uptime_ms") / 1e3,
            draining=daemon.flag("draining"),
            workers=daemon.integer("workers"),
            max_workers=daemon.integer("max_workers"),
            running=daemon.integer("running"),
            max_running=daemon.integer("max_running"),
            waiting=daemon.integer("waiting"),
            notebooks=daemon.optional_integer("notebooks") or 0,
            connections=daemon.integer("connections"),
            memory_bytes=daemon.integer("memory_bytes"),
            available_bytes=daemon.integer("available_bytes"),
            cpu_seconds=daemon.optional_seconds("cpu_ms"),
        ),
        notebooks=fields.structs("notebooks", parse_notebook),
    )


def parse_drained(fields: Fields) -> Drained:
    """The answer to `drain`."""
    return Drained(fields.integer("running"), fields.integer("waiting"), fields.integer("unsaved"))


def parse_tenant(fields: Fields) -> TenantInfo:
    """One of the answer to `tenants`."""
    return TenantInfo(
        name=fields.text("tenant"),
        uids=fields.integers("uids"),
        operator=fields.flag("operator"),
        uses=_parse_limits(fields.fields("uses")),
        limits=_parse_limits(fields.fields("limits")),
    )


def _parse_limits(fields: Fields) -> TenantLimits:
    return TenantLimits(
        running=fields.integer("running"),
        workers=fields.integer("workers"),
        notebooks=fields.integer("notebooks"),
        queued=fields.integer("queued"),
        connections=fields.integer("connections"),
        buffered_bytes=fields.integer("buffered_bytes"),
    )
