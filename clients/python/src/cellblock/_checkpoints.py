"""Saved variables: what became of a checkpoint, which there are, what is in them, what happens to them.

`docs/checkpoints.md` tells when variables are saved and what is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ._exceptions import ProtocolError
from ._fields import Fields, unknown, variant
from ._names import NameInfo, parse_name
from ._operations import NotebookEvent, parse_notebook_event

CheckpointState: TypeAlias = Literal["pending", "saved", "partial", "failed"]

WITHOUT_LIMIT: Final = (1 << 32) - 1
"""As many checkpoints as there are."""
WITHOUT_LIMIT_BYTES: Final = (1 << 63) - 1
"""As many bytes as they take."""


@dataclass(frozen=True, slots=True)
class NotRestored:
    """A value that is not in a checkpoint, or could not be had back from one."""

    path: str
    """Where it was, as Python writes it, e.g. `d['lock']`."""
    kind: str
    """Its type."""
    reason: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What became of saving the variables."""

    state: CheckpointState
    """`pending`: it is being written, or waits for one that is. `partial`: it is saved, but for `left_out`.
    `failed`: the one before it is the newest."""
    id: int | None = None
    """Its number within the notebook, when it is saved."""
    written_bytes: int = 0
    """What it added to the store."""
    pause_seconds: float = 0.0
    """How long the worker stood still for it."""
    reason: str | None = None
    """Why it failed, one sentence."""
    left_out: tuple[NotRestored, ...] = ()
    """What could not be saved; the first 100."""
    left_out_count: int = 0
    """How many there are in all."""

    @property
    def is_saved(self) -> bool:
        """Whether it will be found after a crash of the machine; what is left out is not in it."""
        return self.state in ("saved", "partial")


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A kept checkpoint in one line."""

    id: int
    """Its number within the notebook."""
    parent: int | None
    """The one that was current before it; it may have been removed."""
    created_ms: int
    """When it was taken, in milliseconds since 1970."""
    execution: str
    """After which Execution; empty for none."""
    current: bool
    """It is what the next worker begins with."""
    names: int
    """How many names it has."""
    left_out: int
    """How many values could not be saved."""
    state_bytes: int
    """What its variables take in serialised form."""
    own_bytes: int
    """What its removal would free, when all that are older are gone."""
    python: str
    """The Python that took it, e.g. `3.11.7`."""
    origin: tuple[str, int] | None
    """Of an imported one: the notebook that it was exported from, and its number there."""
    damage: str | None
    """Why it cannot be had back whole; None when nothing is known to be wrong with it."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints kept, oldest first; of very many the newest thousand."""

    checkpoints: tuple[CheckpointInfo, ...]
    used_bytes: int
    """What all of them take of the disk."""
    damage: tuple[str, ...]
    """Damaged files that were found on the way, one sentence each."""

    @property
    def current(self) -> CheckpointInfo | None:
        """The one that the next worker begins with."""
        return next((info for info in self.checkpoints if info.current), None)

    def __iter__(self) -> Iterator[CheckpointInfo]:
        return iter(self.checkpoints)

    def __len__(self) -> int:
        return len(self.checkpoints)


@dataclass(frozen=True, slots=True)
class CheckpointContent:
    """What a checkpoint has."""

    info: CheckpointInfo
    names: tuple[NameInfo, ...]
    """Sorted."""
    left_out: tuple[NotRestored, ...]
    """What could not be saved."""
    packages: dict[str, str]
    """Versions of the packages that had been imported."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A notebook after `restore`: a new worker with the variables of a checkpoint."""

    checkpoint: int
    """Which."""
    names: tuple[NameInfo, ...]
    """Those that are there."""
    losses: tuple[NotRestored, ...]
    """What is not; the first 100."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What reading every byte of a checkpoint has found."""

    id: int
    losses: tuple[str, ...]
    """Every chunk that is damaged or missing, and what is lost with it; empty when every byte is right."""

    @property
    def ok(self) -> bool:
        """Whether every byte is right."""
        return not self.losses


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection has done."""

    removed: tuple[int, ...]
    """The checkpoints that the rule does not keep: they are no more."""
    freed_bytes: int
    """How much less the store takes."""
    used_bytes: int
    """What it takes now."""
    damage: tuple[str, ...]
    """Chunks that were found damaged, one sentence each."""


@dataclass(frozen=True, slots=True)
class CheckpointEvent:
    """What became of a checkpoint whose Outcome said `pending`."""

    notebook: str
    execution_id: str
    """After which Execution it was taken."""
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class EventsMissed:
    """The listener was behind, and `count` events are lost to it."""

    count: int


Event: TypeAlias = CheckpointEvent | NotebookEvent | EventsMissed


def keep_rule(
    keep_last: int | None, keep_daily: int | None, max_bytes: int | None
) -> dict[str, object] | None:
    """The rule of a collection as the wire has it; None, for the profile's, when nothing is said.

    What is not said limits nothing: with `max_bytes` alone age does not matter.
    """
    if (keep_last, keep_daily, max_bytes) == (None, None, None):
        return None
    for name, value in (("keep_last", keep_last), ("keep_daily", keep_daily), ("max_bytes", max_bytes)):
        if value is not None and value < 0:
            raise ValueError(f"{name} is {value}: 0 is the least")
    everything = WITHOUT_LIMIT if keep_daily is None else 0
    return {
        "last": everything if keep_last is None else min(keep_last, WITHOUT_LIMIT),
        "daily": 0 if keep_daily is None else min(keep_daily, WITHOUT_LIMIT),
        "max_bytes": WITHOUT_LIMIT_BYTES if max_bytes is None else min(max_bytes, WITHOUT_LIMIT_BYTES),
    }


def parse_checkpoint(name: str, content: object) -> Checkpoint:
    """What became of one, from its variant."""
    fields = Fields(name, content)
    match name:
        case "pending":
            return Checkpoint("pending")
        case "saved" | "partial":
            left_out = fields.structs("left_out", parse_not_restored)
            return Checkpoint(
                "saved" if name == "saved" else "partial",
                id=fields.integer("id"),
                written_bytes=fields.integer("written_bytes"),
                pause_seconds=fields.integer("pause_us") / 1e6,
                left_out=left_out,
                left_out_count=fields.integer("left_out_count") if name == "partial" else 0,
            )
        case "failed":
            return Checkpoint("failed", reason=fields.text("reason"))
        case _:
            raise unknown("state of a checkpoint", name)


def parse_not_restored(fields: Fields) -> NotRestored:
    """A value that is missing."""
    return NotRestored(fields.text("path"), fields.text("type"), fields.text("reason"))


def parse_info(fields: Fields) -> CheckpointInfo:
    """A checkpoint in one line."""
    return CheckpointInfo(
        id=fields.integer("id"),
        parent=fields.optional_integer("parent"),
        created_ms=fields.integer("created_ms"),
        execution=fields.text("execution"),
        current=fields.flag("current"),
        names=fields.integer("names"),
        left_out=fields.integer("left_out"),
        state_bytes=fields.integer("state_bytes"),
        own_bytes=fields.integer("own_bytes"),
        python=fields.text("python"),
        origin=_origin(fields),
        damage=fields.optional_text("damage"),
    )


def parse_list(fields: Fields) -> Checkpoints:
    """The answer to `checkpoints`."""
    infos = fields.structs("checkpoints", parse_info)
    return Checkpoints(infos, fields.integer("used_bytes"), fields.texts("damage"))


def parse_content(fields: Fields) -> CheckpointContent:
    """The answer to `checkpoint_content`."""
    return CheckpointContent(
        info=parse_info(fields.fields("info")),
        names=fields.structs("names", parse_name),
        left_out=fields.structs("left_out", parse_not_restored),
        packages=dict(_texts_in_pairs("packages", item) for item in fields.items("packages")),
    )


def parse_restored(fields: Fields) -> Restored:
    """The answer to `restore`."""
    names = fields.structs("names", parse_name)
    return Restored(fields.integer("checkpoint"), names, fields.structs("losses", parse_not_restored))


def parse_verified(fields: Fields) -> Verified:
    """One of the answer to `verify_checkpoints`."""
    return Verified(fields.integer("id"), fields.texts("losses"))


def parse_collected(fields: Fields) -> Collected:
    """The answer to `collect_checkpoints`."""
    return Collected(
        removed=fields.integers("removed"),
        freed_bytes=fields.integer("freed_bytes"),
        used_bytes=fields.integer("used_bytes"),
        damage=fields.texts("damage"),
    )


def parse_event(content: object) -> Event:
    """Something that happened."""
    name, told = variant("event", content)
    fields = Fields(name, told)
    match name:
        case "checkpoint":
            checkpoint = parse_checkpoint(*fields.variant("checkpoint"))
            return CheckpointEvent(fields.text("notebook"), fields.text("execution"), checkpoint)
        case "opened" | "closed" | "worker" | "started" | "ended" | "evicted" | "returned":
            return parse_notebook_event(name, fields)
        case "missed":
            return EventsMissed(fields.integer("count"))
        case _:
            raise unknown("event", name)


def _origin(fields: Fields) -> tuple[str, int] | None:
    match fields.optional_items("origin"):
        case None:
            return None
        case [str(notebook), int(number)]:
            return notebook, number
        case _:
            raise ProtocolError("the origin of a checkpoint is not a notebook and a number")


def _texts_in_pairs(what: str, item: object) -> tuple[str, str]:
    match item:
        case [str(first), str(second)]:
            return first, second
        case _:
            raise ProtocolError(f"`{what}` has something that is no pair of texts")
