"""What notebooks may be opened with: profiles, and the plan that makes a sandbox of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from ._exceptions import ProtocolError
from ._fields import Fields, unknown

ZygoteState: TypeAlias = Literal["starting", "up", "failed"]
Actor: TypeAlias = Literal["shim", "init", "worker", "watch"]


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    """A profile in one line; `description` says what is wrong with one that is not `usable`."""

    name: str
    description: str
    usable: bool
    builtin: bool


@dataclass(frozen=True, slots=True)
class WarmInfo:
    """How warm a profile is: its zygote, and the workers that wait for a notebook."""

    profile: str
    zygote: ZygoteState
    detail: str
    """What is wrong; empty when nothing is."""
    spares_ready: int
    spares_wanted: int


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a plan. Without one that is `required` there is no sandbox.

    `action` names what is done and `arguments` has its details, as `cellctl profile explain --json`
    shows them; both change with cellblock's version and are for people and logs.
    """

    actor: Actor
    barrier: str
    required: bool
    action: str
    arguments: dict[str, Any]
    reason: str


def parse_profile(fields: Fields) -> ProfileInfo:
    """A profile in one line."""
    return ProfileInfo(
        name=fields.text("name"),
        description=fields.text("description"),
        usable=fields.flag("usable"),
        builtin=fields.flag("builtin"),
    )


def parse_warm(fields: Fields) -> WarmInfo:
    """How warm a profile is."""
    zygote = fields.text("zygote")
    if zygote not in ("starting", "up", "failed"):
        raise unknown("state of a zygote", zygote)
    return WarmInfo(
        profile=fields.text("profile"),
        zygote=cast(ZygoteState, zygote),
        detail=fields.text("detail"),
        spares_ready=fields.integer("spares_ready"),
        spares_wanted=fields.integer("spares_wanted"),
    )


def parse_step(fields: Fields) -> Step:
    """One step of a plan."""
    actor, need = fields.text("actor"), fields.text("need")
    if actor not in ("shim", "init", "worker", "watch"):
        raise unknown("actor", actor)
    if need not in ("required", "best_effort"):
        raise unknown("need", need)
    action, arguments = fields.variant("action")
    if not isinstance(arguments, dict):
        raise ProtocolError(f"the arguments of `{action[:40]}` are no object")
    return Step(
        actor=cast(Actor, actor),
        barrier=fields.text("barrier"),
        required=need == "required",
        action=action,
        arguments=arguments,
        reason=fields.text("reason"),
    )
