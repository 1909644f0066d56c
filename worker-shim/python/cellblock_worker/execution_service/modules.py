"""What a dotted name stands for, read from modules without running code: no attribute is computed.

A lazy module is a module that holds nothing yet; its own class or `__getattr__` is never asked.
"""

from __future__ import annotations

import ast
import builtins
import sys
import types
from collections.abc import Mapping
from typing import Any

from .scopes import Origin

MISSING = object()

Namespace = Mapping[str, Any]

_dict_of = types.ModuleType.__getattribute__


def is_module(value: Any) -> bool:
    """Whether it is a module, loaded or lazy. Asks nothing of the value itself."""
    return issubclass(type(value), types.ModuleType)


def member(module: types.ModuleType, name: str) -> Any:
    """What the module holds under a name, or `MISSING`."""
    return _dict_of(module, "__dict__").get(name, MISSING)


def value_of(node: ast.expr, namespace: Namespace) -> Any:
    """What a name, or a dotted name that leads through modules, is bound to; else `MISSING`."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return MISSING
    value = namespace.get(node.id, vars(builtins).get(node.id, MISSING))
    while names:
        if not is_module(value):
            return MISSING
        value = member(value, names.pop())
    return value


def root_of(node: ast.expr) -> str | None:
    """The name that a dotted name begins with."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def imported_value(origin: Origin) -> Any:
    """What an import would bind, when it would find all of it loaded already; else `MISSING`.

    Only plain modules: of one that replaces its own class, not even a look is sure to be without effect.
    """
    kind, path, name = origin
    if kind == "from":
        module = sys.modules.get(path)
        # A future statement changes the compiler.
        return member(module, name) if type(module) is types.ModuleType and path != "__future__" else MISSING
    parts = path.split(".")
    top = sys.modules.get(parts[0])
    if type(top) is not types.ModuleType or path not in sys.modules:
        return MISSING
    if not name:
        return top
    found: Any = top
    for part in parts[1:]:
        found = member(found, part) if type(found) is types.ModuleType else MISSING
    return found if found is sys.modules[path] and type(found) is types.ModuleType else MISSING
