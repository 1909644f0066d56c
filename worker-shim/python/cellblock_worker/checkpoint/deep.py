"""Structures deeper than the C pickler's recursion may go.

A pickler keeps its memo from one dump to the next. So what lies deep is dumped first, piece by piece from
below, and whatever holds a piece finds it in the memo. Where pieces point at each other both ways (a linked
list with `prev`), an instance can be dumped empty and given its attributes later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CellType, FunctionType
from typing import Any

# Between two pieces. One level here is up to four of the pickler's: an instance has a state in a dict.
LEVELS = 100

# By identity: a user's metaclass may have no hash.
_ATOMS = frozenset(map(id, (int, str, float, bytes, bool, complex, type(None))))


class Late:
    """In the stream: attributes for an instance that was dumped empty."""

    def __init__(self, instance: Any, state: Any) -> None:
        self.instance = instance
        self.state = state


def reduce_late(_pickler: Any, late: Late) -> Any:
    """Building what `itself` gives builds the instance."""
    return itself, (late.instance,), late.state


def itself(obj: Any) -> Any:
    """Its argument."""
    return obj


def pieces(root: Any, is_plain: Callable[[type], bool]) -> tuple[list[Any], list[Any]]:
    """What to dump before the root, lowest first; and the instances to dump empty."""
    found: list[tuple[int, Any]] = []
    seen = {id(root)}
    path: list[Iterator[Any]] = [_children(root, is_plain)]
    while path:
        child = next(path[-1], path)
        if child is path:
            path.pop()
            continue
        if id(type(child)) in _ATOMS or id(child) in seen:
            continue
        seen.add(id(child))
        if len(path) % LEVELS == 0:
            found.append((len(path), child))
        path.append(_children(child, is_plain))
    found.sort(key=lambda piece: -piece[0])
    containers = [child for _, child in found if not is_plain(type(child))]
    return containers, [child for _, child in found if is_plain(type(child))]


def _children(obj: Any, is_plain: Callable[[type], bool]) -> Iterator[Any]:
    cls = type(obj)
    if cls is list or cls is tuple or cls is set or cls is frozenset:
        yield from tuple(obj)
    elif cls is dict:
        for key, value in tuple(obj.items()):
            yield key
            yield value
    elif cls is FunctionType:
        yield from obj.__closure__ or ()
    elif cls is CellType:
        try:
            yield obj.cell_contents
        except ValueError:
            return
    elif is_plain(cls):
        yield object.__getstate__(obj)
