"""Reading a JSON message field by field: what is not as the protocol says is a `ProtocolError`.

Unknown fields are ignored (a newer cellblockd may send more); unknown variants are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from ._exceptions import ProtocolError

T = TypeVar("T")


class Fields:
    """The fields of one message or struct."""

    __slots__ = ("_name", "_values")

    def __init__(self, name: str, values: object) -> None:
        if not isinstance(values, dict):
            raise ProtocolError(f"`{name}` is {_shown(values)}, not an object")
        self._name = name
        self._values: dict[str, object] = values

    def text(self, key: str) -> str:
        """A string."""
        return self._typed(key, str)

    def integer(self, key: str) -> int:
        """An integer (and no boolean, which Python would take for one)."""
        value = self._typed(key, int)
        if isinstance(value, bool):
            raise self._wrong(key, value, int)
        return value

    def flag(self, key: str) -> bool:
        """A boolean."""
        return self._typed(key, bool)

    def optional_flag(self, key: str) -> bool:
        """A boolean; absent means False."""
        return self._values.get(key) is not None and self.flag(key)

    def optional_text(self, key: str) -> str | None:
        """A string or nothing."""
        return None if self._values.get(key) is None else self.text(key)

    def optional_integer(self, key: str) -> int | None:
        """An integer or nothing."""
        return None if self._values.get(key) is None else self.integer(key)

    def optional_seconds(self, key: str) -> float | None:
        """A time that comes in milliseconds, or nothing."""
        value = self.optional_integer(key)
        return None if value is None else value / 1e3

    def fields(self, key: str) -> Fields:
        """A struct."""
        return Fields(f"{self._name}.{key}", self._value(key))

    def optional_fields(self, key: str) -> Fields | None:
        """A struct or nothing."""
        return None if self._values.get(key) is None else self.fields(key)

    def variant(self, key: str) -> tuple[str, object]:
        """The name and content of an enum's variant."""
        return variant(f"{self._name}.{key}", self._value(key))

    def optional_variant(self, key: str) -> tuple[str, object] | None:
        """The same or nothing."""
        return None if self._values.get(key) is None else self.variant(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        items = self.items(key)
        for item in items:
            if not isinstance(item, str):
                raise self._wrong(key, item, str)
        return tuple(item for item in items if isinstance(item, str))

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of integers."""
        items = self.items(key)
        for item in items:
            if not isinstance(item, int) or isinstance(item, bool):
                raise self._wrong(key, item, int)
        return tuple(item for item in items if isinstance(item, int))

    def structs(self, key: str, parse: Callable[[Fields], T]) -> tuple[T, ...]:
        """A list of structs; absent means empty."""
        if key not in self._values:
            return ()
        return tuple(parse(Fields(f"{self._name}.{key}", item)) for item in self.items(key))

    def items(self, key: str) -> list[object]:
        """A list of anything."""
        return self._typed(key, list)

    def optional_items(self, key: str) -> list[object] | None:
        """The same or nothing."""
        return None if self._values.get(key) is None else self.items(key)

    def _typed(self, key: str, kind: type[T]) -> T:
        value = self._value(key)
        if not isinstance(value, kind):
            raise self._wrong(key, value, kind)
        return value

    def _value(self, key: str) -> object:
        try:
            return self._values[key]
        except KeyError:
            raise ProtocolError(f"`{self._name}` lacks the field `{key}`") from None

    def _wrong(self, key: str, value: object, kind: type) -> ProtocolError:
        return ProtocolError(f"`{self._name}.{key}` is {_shown(value)}, not of type {kind.__name__}")


def variant(name: str, value: object) -> tuple[str, object]:
    """Takes an enum apart: `"busy"` or `{"error": {…}}`, as serde writes them."""
    if isinstance(value, str):
        return value, {}
    if isinstance(value, dict) and len(value) == 1:
        [(tag, content)] = value.items()
        return str(tag), content
    raise ProtocolError(f"`{name}` is {_shown(value)}, not a variant")


def parse_json(meta: bytes) -> object:
    """Any JSON."""
    try:
        # Decoded first: json.loads would guess the encoding, though it is UTF-8 by definition.
        return json.loads(meta.decode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"meta is not JSON: {error}") from error


def unknown(what: str, name: object) -> ProtocolError:
    """A variant that this release does not know."""
    return ProtocolError(f"unknown {what} {_shown(name)}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
