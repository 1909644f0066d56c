"""Large `bytes`, `bytearray` and `str`: out of the stream, as arrays are.

Pickle writes these itself and asks nobody. So those near the top of the namespace are put into the memo of
pickler and unpickler ahead, at the same places, each made from a buffer. Those deeper stay in the stream.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import islice
from typing import Any

# Below them a mapping at the restore costs more than the stream; of a text it must be made anew besides.
_LEAST_BYTES = 32 << 10
_LEAST_CHARACTERS = 256 << 10

# Variables, what they hold and what that holds: to look at all would be another walk of the whole graph.
_DEPTH = 3
# Of one container: what begins with this many small things is taken for a table of them.
_LOOKED_AT = 1_000
_CONTAINERS = (list, tuple, dict)


def find(variables: dict[str, Any]) -> list[Any]:
    """Each once, by identity."""
    found: dict[int, Any] = {}
    level: list[Any] = [variables]
    for _ in range(_DEPTH):
        below: list[Any] = []
        for container in level:
            for held in _items(container):
                if _is_large(held):
                    found.setdefault(id(held), held)
                elif type(held) in _CONTAINERS:
                    below.append(held)
                elif type(attributes := _attributes(held)) is dict:
                    below.append(attributes)
        level = below
    return list(found.values())


def _is_large(held: Any) -> bool:
    kind = type(held)
    if kind is str:
        return len(held) >= _LEAST_CHARACTERS
    return (kind is bytes or kind is bytearray) and len(held) >= _LEAST_BYTES


def _attributes(held: Any) -> Any:
    """Those of an instance of the user's class."""
    try:
        if type.__dict__["__module__"].__get__(type(held)) == "__main__":
            return object.__getattribute__(held, "__dict__")
    except AttributeError:
        pass
    return None


def _items(container: Any) -> Iterator[Any]:
    values = container.values() if type(container) is dict else container
    if len(container) > _LOOKED_AT and not any(map(_is_large, list(islice(values, _LOOKED_AT)))):
        return iter(())
    return iter(list(values))


def content_of(blob: Any) -> pickle.PickleBuffer:
    """Its bytes; of a text, its UTF-8."""
    return pickle.PickleBuffer(blob.encode("utf-8", "surrogatepass") if type(blob) is str else blob)


def prefix(blobs: list[Any]) -> bytes:
    """For the stream: makes each of the next buffer, and leaves it in the unpickler's memo alone."""
    return b"".join(
        _text("builtins")
        + _text(type(blob).__name__)
        + pickle.STACK_GLOBAL
        + pickle.NEXT_BUFFER
        + _rest_of_arguments(blob)
        + pickle.REDUCE
        + pickle.MEMOIZE
        + pickle.POP
        for blob in blobs
    )


def _rest_of_arguments(blob: Any) -> bytes:
    if type(blob) is str:
        return _text("utf-8") + _text("surrogatepass") + pickle.TUPLE3
    return pickle.TUPLE1


def _text(text: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()
