"""What the user has set on a module or on one of its classes: `json.dumps = mine`, `DataFrame.peek = peek`.

Modules are saved by name, and what they hold with them. So what they hold of the user's is looked for:
objects of his classes, his functions and classes. A plain value that he has set there looks like any of the
module's own, and is not found.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from cellblock_worker import names

from .references import References, module_of
from .tombstone import Tombstone

# Where it is, as in `pandas` and `DataFrame.peek`; and what.
Patch = tuple[str, str, Any]

_module_dict = vars(ModuleType)["__dict__"].__get__
_type_dict = type.__dict__["__dict__"].__get__

# The worker's own code.
_OWN = __name__.partition(".")[0]

# Set by the interpreter and the shell when a cell fails, or of its result.
_NOT_SET = frozenset(["sys.last_exc", "sys.last_type", "sys.last_value", "builtins._"])


def find(namespace: dict[str, Any], references: References) -> list[Patch]:
    """All of them, in loaded modules that an import finds again."""
    is_users = _Judge(namespace)
    found: list[Patch] = []
    seen = {id(namespace)}
    for module, loaded in list(sys.modules.items()):
        if not isinstance(loaded, ModuleType) or id(_module_dict(loaded)) in seen:
            continue
        content = _module_dict(loaded)
        seen.add(id(content))
        found += [
            (module, name, value)
            for name, value in list(content.items())
            if id(type(value)) not in is_users.never
            and is_users(value)
            and f"{module}.{name}" not in _NOT_SET
            and references.is_importable(module)
        ]
    for cls in _classes(namespace):
        held = [(name, value) for name, value in list(_type_dict(cls).items()) if is_users(value)]
        place = references.find(cls) if held else None
        if place is not None:
            found += [(place[0], f"{place[1]}.{name}", value) for name, value in held]
    return found


def split(patches: list[Patch]) -> tuple[list[Patch], list[dict[str, str]]]:
    """Those that can be made again; and a loss for each that is a part of how the process itself works."""
    kept, losses = [], []
    for patch in patches:
        module, name, value = patch
        if module == "sys" or module.partition(".")[0] == _OWN:
            reason = f"set on `{module}`, on which the next process depends itself: set it again"
            losses.append({"path": f"{module}.{name}", "type": names.kind_of(value), "reason": reason})
        else:
            kept.append(patch)
    return kept, losses


def restore(patches: list[Patch]) -> list[dict[str, str]]:
    """Sets them; gives a loss for each that could not be."""
    losses = []
    for module, name, value in patches:
        # What is lost is told by its tombstone. The module's own serves better than that.
        if type(value) is Tombstone:
            continue
        *path, last = name.split(".")
        try:
            holder: Any = importlib.import_module(module)
            for part in path:
                holder = getattr(holder, part)
            setattr(holder, last, value)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"[:300]
            losses.append({"path": f"{module}.{name}", "type": names.kind_of(value), "reason": reason})
    return losses


class _Judge:
    """Whether a value is the user's."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        # Types none of whose instances is, by identity: tens of thousands of values are looked at.
        self.never: set[int] = set()

    def __call__(self, value: Any) -> bool:
        cls = type(value)
        if cls is FunctionType:
            return value.__globals__ is self._namespace
        if module_of(cls) == "__main__":
            return True
        if issubclass(cls, type):
            return module_of(value) == "__main__"
        self.never.add(id(cls))
        return False


def _classes(namespace: dict[str, Any]) -> Iterator[Any]:
    """Of modules, as far as the user has them or their module by name."""
    seen: set[int] = set()
    for value in list(namespace.values()):
        near = list(_module_dict(value).values()) if issubclass(type(value), ModuleType) else [value]
        for one in near:
            if issubclass(type(one), type) and id(one) not in seen and module_of(one) != "__main__":
                seen.add(id(one))
                yield one
