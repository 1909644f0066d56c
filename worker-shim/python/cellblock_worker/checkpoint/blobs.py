"""Large `bytes` and `bytearray`: out of the stream, as arrays are.

Pickle writes these two itself and asks nobody. So those near the top of the namespace are put into the memo
of pickler and unpickler ahead, at the same places, each made from a buffer. Those deeper stay in the stream.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

# Variables, what they hold and what that holds: to look at all would be another walk of the whole graph.
_DEPTH = 3
# Of one container: a table of rows has none.
_MOST_ITEMS = 1_000
_KINDS = (bytes, bytearray)


def find(variables: dict[str, Any], least: int) -> list[Any]:
    """Each once, by identity."""
    found: dict[int, Any] = {}
    level: list[Any] = [variables]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for container in level:
            for held in _items(container):
                if type(held) in _KINDS and len(held) >= least:
                    found.setdefault(id(held), held)
                elif type(held) in (list, tuple, dict):
                    below.append(held)
        level = below
    return list(found.values())


def _items(container: Any) -> Iterator[Any]:
    values = container.values() if type(container) is dict else container
    return iter(list(values) if len(container) <= _MOST_ITEMS else ())


def prefix(blobs: list[Any]) -> bytes:
    """For the stream: makes each of the next buffer, and leaves it in the unpickler's memo alone."""
    return b"".join(
        _text("builtins")
        + _text(type(blob).__name__)
        + pickle.STACK_GLOBAL
        + pickle.NEXT_BUFFER
        + pickle.TUPLE1
        + pickle.REDUCE
        + pickle.MEMOIZE
        + pickle.POP
        for blob in blobs
    )


def _text(text: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()
