"""Classes made in cells: an empty class first, so that methods and members can reach it, then its attributes.

The class comes to be by `type.__new__` and is filled by `type.__setattr__`: neither its metaclass's code nor
`__init_subclass__` nor `__set_name__` runs again, since all that they did is among the attributes.
"""

from __future__ import annotations

import _collections_abc
import contextlib
import copyreg
import enum
import importlib
import operator
import types
from abc import ABCMeta
from collections.abc import Iterator
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

from .references import module_of, named

# ABCMeta's other half, in C; nobody has typed it.
_abc: Any = importlib.import_module("_abc")

# What C's pickler writes as one opcode.
_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reduction

_type_name = type.__dict__["__qualname__"].__get__
_type_dict = type.__dict__["__dict__"].__get__
_type_bases = type.__dict__["__bases__"].__get__

# Made anew with the class, or kept by the interpreter elsewhere, or found again by `copyreg`.
_MADE = frozenset(
    "__dict__ __weakref__ __slots__ _abc_impl __module__ __qualname__ __orig_bases__ __slotnames__".split()
)

_OF_CONSTANTS = (type(None), type(...), type(NotImplemented))

# Py_TPFLAGS_HEAPTYPE and Py_TPFLAGS_IMMUTABLETYPE of CPython's object.h.
HEAP = 1 << 9
_CHANGEABLE = HEAP | 1 << 8

# Types of the interpreter's own that stand nowhere under the name they say.
_UNNAMED = {
    id(value): (module, name)
    # The later has the say.
    for module, holder in (("_collections_abc", _collections_abc), ("types", types))
    for name, value in vars(holder).items()
    if type(value) is type and value.__module__ == "builtins"
}


def reduce_class(pickler: GraphPickler, cls: type) -> Reduction:
    """By name if it is found there, else by value."""
    if pickler.references.find(cls) is not None or any(cls is one for one in _OF_CONSTANTS):
        return NotImplemented
    name = _UNNAMED.get(id(cls))
    if name is not None:
        return named, name
    content = _type_dict(cls)
    if module_of(type(cls)) == "_ctypes":
        return _reduce_foreign(cls, content)
    start = {name: content[name] for name in ("__module__", "__orig_bases__") if name in content}
    start["__qualname__"] = _type_name(cls)
    if "__slots__" in content:
        start["__slots__"] = _slots(cls, content["__slots__"])
    attributes = {
        name: value for name, value in content.items() if name not in _MADE and not _is_made_anew(cls, value)
    }
    virtual = _registered(cls) if isinstance(cls, ABCMeta) else None
    return (
        make_class,
        (type(cls), cls.__name__, _type_bases(cls), start),
        (attributes, virtual),
        None,
        None,
        fill_class,
    )


def _reduce_foreign(cls: Any, content: Any) -> Reduction:
    """A class of `ctypes`: its layout is C's, and made at once from all its attributes."""
    if hasattr(cls, "_length_"):
        return operator.mul, (cls._type_, cls._length_)
    attributes = {
        name: value
        for name, value in content.items()
        if name not in ("__dict__", "__weakref__") and module_of(type(value)) != "_ctypes"
    }
    return make_foreign, (cls.__name__, _type_bases(cls), attributes)


def make_foreign(name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> type:
    """A structure or union of `ctypes`."""
    made = type(bases[0])(name, bases, dict(attributes))
    assert isinstance(made, type)
    return made


def _is_made_anew(cls: type, value: Any) -> bool:
    return (
        type(value) is MemberDescriptorType or type(value) is GetSetDescriptorType
    ) and value.__objclass__ is cls


def _slots(cls: type, said: Any) -> Any:
    # What was given may be used up: an iterator is allowed.
    if isinstance(said, (str, tuple, list, dict)):
        return said
    return tuple(name for name, value in _type_dict(cls).items() if type(value) is MemberDescriptorType)


def _registered(cls: ABCMeta) -> list[type]:
    references = _abc._get_dump(cls)[0]
    return [one for reference in references if (one := reference()) is not None]


def make_class(metaclass: type, name: str, bases: tuple[type, ...], start: dict[str, Any]) -> type:
    """A class without its attributes."""
    with _no_subclass_hook(bases):
        return type.__new__(metaclass, name, bases, dict(start))


@contextlib.contextmanager
def _no_subclass_hook(bases: tuple[type, ...]) -> Iterator[None]:
    """For the time of this, a new class of these bases does not tell them."""
    hooks: dict[int, tuple[type, Any]] = {}
    for base in bases:
        for cls in type.mro(base) if type(base) is type else base.__mro__:
            hook = _type_dict(cls).get("__init_subclass__")
            # One of C's cannot be changed, and is content with the original bases, which are there.
            if hook is not None and cls.__flags__ & _CHANGEABLE == HEAP:
                hooks[id(cls)] = (cls, hook)
    for cls, _ in hooks.values():
        type.__setattr__(cls, "__init_subclass__", classmethod(_ignore))
    try:
        yield
    finally:
        for cls, hook in hooks.values():
            type.__setattr__(cls, "__init_subclass__", hook)


def _ignore(_cls: type, /, **_: Any) -> None:
    pass


def fill_class(cls: type, state: tuple[dict[str, Any], list[type] | None]) -> None:
    """The attributes."""
    attributes, virtual = state
    for name, value in attributes.items():
        type.__setattr__(cls, name, value)
    if virtual is not None:
        _abc._abc_init(cls)
        for one in virtual:
            _abc._abc_register(cls, one)


def reduce_member(pickler: GraphPickler, member: enum.Enum) -> Reduction:
    """A member of an Enum. Those of a class saved by value come with it, and stay the only ones."""
    cls = type(member)
    if pickler.references.find(cls) is not None:
        return pickler.ask(member)
    # As if Enum had no say: its own way looks the member up in a class that is not filled yet.
    arguments = object.__reduce_ex__(member, 5)[1][1:]
    return make_member, (cls, arguments), vars(member), None, None, fill_member


def make_member(cls: type, arguments: tuple[Any, ...]) -> Any:
    """A member without its name and value: of the type that the Enum mixes in, or a plain object."""
    return make_bare(cls, *arguments)


def make_bare(cls: type, *arguments: Any) -> Any:
    """An instance by the first `__new__` that is C's: no Python code of the class runs."""
    for base in cls.__mro__:
        maker = base.__dict__.get("__new__")
        if isinstance(maker, types.BuiltinMethodType):
            return maker(cls, *arguments)
    return object.__new__(cls)


def owner_of(cls: type, name: str) -> type:
    """The class that gives an attribute to the instances of another."""
    for base in cls.__mro__:
        if name in base.__dict__:
            return base
    return object


def is_of_python(cls: type) -> bool:
    """Whether Python code can change a class, as it can its own."""
    return cls.__flags__ & _CHANGEABLE == HEAP


def fill_member(member: Any, state: dict[str, Any]) -> None:
    """Name, value and whatever else it carries."""
    member.__dict__.update(state)


def reduce_by_state(_pickler: GraphPickler, obj: Any) -> Reduction:
    """Class and attributes, for what cannot be asked: its reduce is a name that leads nowhere, or its
    `__getattr__` answers to every name.
    """
    cls = type(obj)
    if _holds_more(cls):
        raise TypeError(f"cannot pickle '{cls.__name__}' object")
    state = object.__getstate__(obj)
    return _newobj, (cls,), state, None, None, fill_instance


def _holds_more(cls: type) -> bool:
    """Whether instances have room for what C keeps there, of which `__getstate__` knows nothing."""
    slots = copyreg._slotnames(cls)  # type: ignore[attr-defined]
    words = (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0) + len(slots)
    return cls.__itemsize__ != 0 or cls.__basicsize__ > object.__basicsize__ + 8 * words


def fill_instance(obj: Any, state: Any) -> None:
    """As pickle does, but nothing is looked up on the object."""
    for base in type(obj).__mro__:
        if "__setstate__" in base.__dict__:
            base.__dict__["__setstate__"](obj, state)
            return
    attributes, slots = state if type(state) is tuple else (state, {})
    object.__getattribute__(obj, "__dict__").update(attributes or {})
    for name, value in slots.items():
        object.__setattr__(obj, name, value)
