"""Functions made in cells: code by marshal, globals by reference, and what hangs on them.

A reduce tuple's state setter runs after the object is in the memo, so a function may reach itself through
its closure, its defaults or its attributes.
"""

from __future__ import annotations

import importlib
import importlib.util
import marshal
from types import BuiltinMethodType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from . import left_out
from .references import named
from .tombstone import Tombstone, describe, lose

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reduction

_MAGIC = importlib.util.MAGIC_NUMBER


class ModuleGlobals:
    """In the stream: the globals of the module of this name."""

    def __init__(self, module: str) -> None:
        self.module = module


def reduce_function(pickler: GraphPickler, function: FunctionType) -> Reduction:
    """By name if it is found there, else by value."""
    if pickler.references.find(function) is not None:
        return NotImplemented
    module = pickler.references.module_of_globals(function.__globals__)
    content = function.__globals__ if module is None else ModuleGlobals(module)
    state = {
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
        "__doc__": function.__doc__,
        "__defaults__": function.__defaults__,
        "__kwdefaults__": function.__kwdefaults__,
        "__annotations__": function.__annotations__ or None,
        "__type_params__": getattr(function, "__type_params__", None) or None,
    }
    arguments = (function.__code__, content, function.__name__, function.__closure__)
    kept = {name: value for name, value in state.items() if value is not None}
    return make_function, arguments, (kept, function.__dict__), None, None, fill_function


def make_function(
    code: CodeType | Tombstone,
    content: dict[str, Any] | ModuleGlobals,
    name: str,
    closure: tuple[CellType, ...] | None,
) -> FunctionType | Tombstone:
    """A function without its attributes; its cells may still be empty. Nothing without its code."""
    if type(code) is Tombstone:
        return lose("function", describe(code)["reason"])
    assert type(code) is CodeType
    if isinstance(content, ModuleGlobals):
        content = vars(importlib.import_module(content.module))
    return FunctionType(code, content, name, None, closure)


def fill_function(function: FunctionType | Tombstone, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """The attributes."""
    if type(function) is Tombstone:
        return
    assert type(function) is FunctionType
    attributes, own = state
    # Else it would be that of the globals, which need not be the function's.
    function.__module__ = attributes.pop("__module__", None)
    for name, value in attributes.items():
        setattr(function, name, value)
    function.__dict__.update(own)


def reduce_code(_pickler: GraphPickler, code: CodeType) -> Reduction:
    """By marshal, which every version of Python writes in its own way."""
    return load_code, (_MAGIC, marshal.dumps(code))


def load_code(magic: bytes, text: bytes) -> CodeType | Tombstone:
    """Code of this Python's; that of another version is lost, as it would crash."""
    if magic != _MAGIC:
        # No exception: then all functions are lost, and all else must not be loaded by way of a salvage.
        return lose("code", "its code was compiled by another version of Python")
    code = marshal.loads(text)
    assert isinstance(code, CodeType)
    return code


def reduce_cell(_pickler: GraphPickler, cell: CellType) -> Reduction:
    """A variable of a closure; functions may share it. It is made empty, for it may reach itself."""
    try:
        content = cell.cell_contents
    except ValueError:
        return CellType, ()
    return CellType, (), (content,), None, None, fill_cell


def fill_cell(cell: CellType, state: tuple[Any]) -> None:
    """The content."""
    cell.cell_contents = state[0]


def reduce_method(_pickler: GraphPickler, method: MethodType) -> Reduction:
    """Not by name as the default does: the class may hold another function there, or none."""
    return MethodType, (method.__func__, method.__self__)


def reduce_builtin(pickler: GraphPickler, function: BuiltinMethodType) -> Reduction:
    """A C function of a module, or a C method bound to its object."""
    owner = function.__self__
    if owner is None or isinstance(owner, ModuleType):
        if pickler.references.find(function) is not None:
            return NotImplemented
        module = function.__module__ or (owner.__name__ if owner is not None else "")
        if pickler.references.leads_to(module, function.__name__, function):
            return named, (module, function.__name__)
        return pickler.leave_out(function, "a function of C without a name that leads to it")
    reason = left_out.reason_of(type(owner))
    if reason is not None:
        return pickler.leave_out(function, f"a method of {reason}")
    return getattr, (owner, function.__name__)


def reduce_module(pickler: GraphPickler, module: ModuleType) -> Reduction:
    """By name; one made by hand by its content."""
    name = module.__dict__.get("__name__")
    if type(name) is str and pickler.references.leads_to_module(name, module):
        return importlib.import_module, (name,)
    content = {
        key: value
        for key, value in module.__dict__.items()
        if key not in ("__builtins__", "__loader__", "__spec__", "__name__", "__doc__")
    }
    return ModuleType, (str(name), module.__doc__), content, None, None, fill_module


def fill_module(module: ModuleType, content: dict[str, Any]) -> None:
    """Its names."""
    module.__dict__.update(content)


REDUCERS = {
    FunctionType: reduce_function,
    CodeType: reduce_code,
    CellType: reduce_cell,
    MethodType: reduce_method,
    BuiltinMethodType: reduce_builtin,
}
