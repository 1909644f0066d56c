"""What stands, after a restore, where something could not be saved or loaded.

It is never None and never silently something else: any use of it raises `NotRestored`, which says what is
missing and why. A top-level name with such a value is not bound at all.
"""

from __future__ import annotations

from typing import Any, NoReturn


class NotRestored(RuntimeError):
    """Something was used that a restore could not bring back."""


class Tombstone:
    """Stands for one object. What only looks at it (`repr`, `is`, `type`) or hashes it is answered."""

    __slots__ = ("_kind", "_path", "_reason")

    def __init__(self, kind: str, reason: str) -> None:
        set_slot = object.__setattr__
        set_slot(self, "_kind", kind)
        set_slot(self, "_reason", reason)
        set_slot(self, "_path", "")

    def __repr__(self) -> str:
        return f"<{message(self)}>"

    # The key of a dict may be one.
    __hash__ = object.__hash__

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return Tombstone, _read(self)[:2]

    # `copy.copy` of what holds one is the same.
    def __copy__(self) -> Tombstone:
        return self

    def __deepcopy__(self, _memo: Any) -> Tombstone:
        return self

    def __getattr__(self, _name: str) -> NoReturn:
        # Only for what is not found otherwise. An AttributeError would make `hasattr` say no, silently.
        raise NotRestored(message(self))

    def __eq__(self, other: object) -> bool:
        return self is other or _refuse(self)

    def __ne__(self, other: object) -> bool:
        return self is not other and _refuse(self)


def describe(tombstone: Tombstone) -> dict[str, str]:
    """Its entry in a list of losses."""
    kind, reason, path = _read(tombstone)
    return {"path": path, "type": kind, "reason": reason}


def place(tombstone: Tombstone, path: str) -> None:
    """Tells it where it stands, for its messages."""
    object.__setattr__(tombstone, "_path", path)


def message(tombstone: Tombstone) -> str:
    """Why it cannot be used."""
    kind, reason, path = _read(tombstone)
    return (
        f"`{path}` was not restored: {reason}"
        if path
        else f"an object of type {kind} was not restored: {reason}"
    )


def _read(tombstone: Tombstone) -> tuple[str, str, str]:
    get = object.__getattribute__
    return get(tombstone, "_kind"), get(tombstone, "_reason"), get(tombstone, "_path")


def _refuse(self: Tombstone, *_: Any, **__: Any) -> NoReturn:
    raise NotRestored(message(self))


# Python looks these up on the type, so `__getattr__` would not see them.
_USES = (
    "bool len length_hint iter next reversed contains getitem setitem delitem call enter exit aenter "
    "aexit await aiter anext lt le gt ge add radd iadd sub rsub isub mul rmul imul matmul rmatmul imatmul "
    "truediv rtruediv itruediv floordiv rfloordiv ifloordiv mod rmod imod divmod rdivmod pow rpow ipow "
    "lshift rlshift ilshift rshift rrshift irshift and rand iand or ror ior xor rxor ixor neg pos abs "
    "invert int float complex index round trunc floor ceil bytes format fspath setattr delattr get set "
    "delete"
).split()
for _use in _USES:
    setattr(Tombstone, f"__{_use}__", _refuse)


# Those that came to be during the present load, for which no place is known yet.
made_by_load: list[Tombstone] = []


def lose(kind: str, reason: str) -> Tombstone:
    """A tombstone for what could not be loaded."""
    lost = Tombstone(kind, reason)
    made_by_load.append(lost)
    return lost
