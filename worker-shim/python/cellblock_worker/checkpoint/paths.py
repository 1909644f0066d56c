"""Where an object stands among the user's variables, as he would write it: `d['lock']`, `model.layers[3]`.

Walked only when something was lost. Nothing of the user's runs but the `repr` of keys that are plain.
"""

from __future__ import annotations

import copyreg
import gc
from collections import deque
from collections.abc import Iterator
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from .references import loaded

# Objects looked at. Beyond that a loss has no path, but is still told.
MOST_OBJECTS = 3_000_000
KEY_CHARACTERS = 60

# By identity: a user's metaclass may have no hash.
_ATOMS = frozenset(map(id, (int, str, float, bytes, bool, complex, type(None))))
Step = tuple[str, Any]


def named(variables: dict[str, Any], extras: Any) -> dict[str, Any]:
    """All from which a path can begin, whether a variable or not."""
    found = dict(variables)
    if type(extras) is dict:
        interpreter = extras.get("interpreter")
        results = interpreter.get("results") if type(interpreter) is dict else None
        patches = extras.get("patches")
        if type(results) is dict:
            found.update({f"Out[{number}]": value for number, value in results.items()})
        if type(patches) is list:
            found.update({f"{module}.{name}": value for module, name, value in patches})
    return found


def find(variables: dict[str, Any], wanted: set[int]) -> dict[int, str]:
    """The shortest path to each of these objects, by identity."""
    found: dict[int, str] = {}
    parents: dict[int, tuple[int, str]] = {}
    # Kept: an object that a walk makes would free its identity for another.
    alive: list[Any] = []
    queue: deque[Any] = deque()

    def meet(parent: int, step: str, child: Any) -> None:
        key = id(child)
        if id(type(child)) in _ATOMS or key in parents:
            return
        parents[key] = (parent, step)
        alive.append(child)
        queue.append(child)
        if key in wanted:
            found[key] = _joined(parents, key)

    for name, value in variables.items():
        meet(0, name, value)
    while queue and len(found) < len(wanted) and len(parents) < MOST_OBJECTS:
        parent = queue.popleft()
        if id(parent) in wanted:
            continue
        for step, child in _steps(parent):
            meet(id(parent), step, child)
    return found


def _joined(parents: dict[int, tuple[int, str]], key: int) -> str:
    steps: list[str] = []
    while key:
        key, step = parents[key]
        steps.append(step)
    if len(steps) > 20:
        steps[10:-10] = ["…"]
    return "".join(reversed(steps))


def _steps(obj: Any) -> Iterator[Step]:
    cls = type(obj)
    if isinstance(obj, ModuleType):
        return
    if issubclass(cls, dict):
        # Most of what is walked are atoms in dicts and lists: no path is written for them.
        for key, value in list(dict.items(obj)):
            if id(type(value)) not in _ATOMS:
                yield f"[{_key(key)}]", value
            if id(type(key)) not in _ATOMS:
                yield f"<key {_key(key)}>", key
    elif issubclass(cls, (list, tuple)):
        for at, value in enumerate(_plain_items(obj)):
            if id(type(value)) not in _ATOMS:
                yield f"[{at}]", value
    elif cls is deque:
        for at, value in enumerate(list(obj)):
            yield f"[{at}]", value
    elif cls is set or cls is frozenset:
        for value in list(obj):
            yield "{…}", value
    elif cls is FunctionType:
        yield from _function_steps(obj)
    elif cls is MethodType:
        yield ".__self__", obj.__self__
        yield ".__func__", obj.__func__
    elif cls is CellType:
        yield from _cell_step("", obj)
    elif isinstance(obj, type):
        if obj.__module__ == "__main__":
            for name, value in list(type.__dict__["__dict__"].__get__(obj).items()):
                yield f".{name}", value
    else:
        yield from _instance_steps(obj)


def _plain_items(obj: Any) -> list[Any]:
    # Past an `__iter__` of the user's.
    return list(list.__iter__(obj)) if isinstance(obj, list) else list(tuple.__iter__(obj))


def _function_steps(function: FunctionType) -> Iterator[Step]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield from _cell_step(f".<closure>.{name}", cell)
    for at, value in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{at}]", value
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{name!r}]", value
    for name, value in function.__dict__.items():
        yield f".{name}", value


def _cell_step(step: str, cell: CellType) -> Iterator[Step]:
    try:
        yield step, cell.cell_contents
    except ValueError:
        return


def _instance_steps(obj: Any) -> Iterator[Step]:
    try:
        attributes = object.__getattribute__(obj, "__dict__")
    except (AttributeError, TypeError):
        attributes = None
    if type(attributes) is dict:
        for name, value in list(attributes.items()):
            yield f".{name}", value
    for name in copyreg._slotnames(type(obj)):  # type: ignore[attr-defined]
        try:
            yield f".{name}", object.__getattribute__(obj, name)
        except AttributeError:
            continue
    ndarray = loaded("numpy", "ndarray")
    if ndarray is not None and type(obj) is ndarray and obj.dtype.hasobject and obj.dtype.names is None:
        for at, value in enumerate(obj.ravel().tolist()):
            yield f".flat[{at}]", value
    # What C code holds, such as the arguments of a `partial`.
    for value in gc.get_referents(obj):
        if not isinstance(value, (type, ModuleType)) and value is not attributes:
            yield ".…", value


def _key(key: Any) -> str:
    shown = repr(key) if id(type(key)) in _ATOMS else f"<{type(key).__name__}>"
    return shown if len(shown) <= KEY_CHARACTERS else f"{shown[: KEY_CHARACTERS - 1]}…"
