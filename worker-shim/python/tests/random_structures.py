"""Random values for tests of what is saved and restored, and how two of them are compared."""

from __future__ import annotations

import copyreg
import random
import string
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any


class Thing:
    """An object with attributes."""

    a: Any
    b: Any
    c: Any


class Numbers(list[Any]):
    """A list that is pickled through an iterator."""


class Table(dict[Any, Any]):
    """The same for a dict."""


class Structures:
    """Random values: every kind of object, shared and recursive ones too."""

    def __init__(self, seed: int, *, subclasses: bool = True) -> None:
        self._random = random.Random(seed)
        self._kinds: list[Any] = [
            list,
            dict,
            tuple,
            set,
            frozenset,
            Thing,
            *([Numbers, Table] if subclasses else []),
        ]
        self._made: list[Any] = []

    def make(self, depth: int = 5) -> Any:
        """One value."""
        choose = self._random.random()
        if depth == 0 or choose < 0.25:
            return self._leaf()
        if choose < 0.45 and self._made:
            return self._random.choice(self._made)
        count = self._random.choice([0, 1, 2, 3, 4, 7, 40] if depth > 2 else [0, 1, 2, 5])
        kind = self._random.choice(self._kinds)
        if kind in (set, frozenset):
            return self._keep(kind(self._key() for _ in range(count)))
        if kind is tuple:
            return self._keep(tuple(self.make(depth - 1) for _ in range(count)))
        value = self._keep(kind())
        for _ in range(count):
            if isinstance(value, list):
                value.append(self.make(depth - 1))
            elif isinstance(value, dict):
                value[self._key()] = self.make(depth - 1)
            else:
                setattr(value, self._random.choice("abc"), self.make(depth - 1))
        return value

    def _keep(self, value: Any) -> Any:
        self._made.append(value)
        return value

    def _key(self) -> Any:
        return self._random.choice(
            [self._random.randrange(10**6), self._text(), (self._text(), 1), None, True]
        )

    def _text(self) -> str:
        return "".join(self._random.choices(string.ascii_letters + "äß€😀\n", k=self._random.randrange(12)))

    def _leaf(self) -> Any:
        bits = self._random.choice([1, 8, 16, 31, 32, 64, 3000])
        long = self._random.choice([0, 10, 300, 70_000])
        return self._random.choice(
            [
                None,
                True,
                self._random.getrandbits(bits) * self._random.choice([1, -1]),
                self._random.gauss(0, 1e10),
                self._keep(self._text()),
                self._keep(self._random.randbytes(long)),
                self._keep(bytearray(self._random.randbytes(long))),
                self._keep("é" * long),
                complex(1, self._random.random()),
                Decimal("3.14"),
                datetime(2026, 11, 27, tzinfo=UTC),
                int,
                copyreg.__newobj__,  # type: ignore[attr-defined]
                Ellipsis,
                slice(1, self._random.randrange(9)),
            ]
        )


def drawing(value: Any) -> list[Any]:
    """The value as a list of its parts, in which an object that was there before is its number.

    Equal drawings are equal values with the same sharing.
    """
    parts: list[Any] = []
    numbers: dict[int, int] = {}
    ahead = [value]
    while ahead:
        part = ahead.pop()
        if isinstance(part, list | dict | set | frozenset | tuple | bytearray | Thing):
            if id(part) in numbers:
                parts.append(("again", numbers[id(part)]))
                continue
            numbers[id(part)] = len(numbers)
        if isinstance(part, dict):
            parts.append((type(part), list(part)))
            ahead += part.values()
        elif isinstance(part, Thing):
            parts.append((type(part), list(part.__dict__)))
            ahead += part.__dict__.values()
        elif isinstance(part, list | tuple):
            parts.append((type(part), len(part)))
            ahead += part
        else:
            parts.append(part)
    return parts
