"""Instances of classes whose code would be in the way of a restore.

A `__new__` that wants arguments, a list or dict that checks what is put into it: such instances are made and
filled by C's own methods, as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .classes import fill_instance, is_of_python, make_bare, owner_of

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reducer, Reduction

# What pickle calls to fill an instance, or to read it.
_FILLING = {list: ("append", "extend", "__iter__"), dict: ("__setitem__", "items")}


def reducer_for(cls: type, *, is_by_value: bool) -> Reducer | None:
    """For a class that has no say in how its instances are pickled; None if pickle's own way is right."""
    for base, names in _FILLING.items():
        if issubclass(cls, base) and any(owner_of(cls, name) is not base for name in names):
            return _reduce_list if base is list else _reduce_dict
    # A module's class may count on its `__new__`, to give the only instance.
    return _reduce_made if is_by_value and is_of_python(owner_of(cls, "__new__")) else None


def _reduce_made(pickler: GraphPickler, obj: Any) -> Reduction:
    reduction = pickler.ask(obj)
    return (make_bare, *reduction[1:])


def _reduce_list(_pickler: GraphPickler, obj: list[Any]) -> Reduction:
    items = list(list.__iter__(obj))
    return make_bare, (type(obj),), (items, object.__getstate__(obj)), None, None, fill_list


def fill_list(obj: list[Any], state: tuple[list[Any], Any]) -> None:
    """Items and attributes."""
    list.extend(obj, state[0])
    if state[1] is not None:
        fill_instance(obj, state[1])


def _reduce_dict(_pickler: GraphPickler, obj: dict[Any, Any]) -> Reduction:
    items = list(dict.items(obj))
    return make_bare, (type(obj),), (items, object.__getstate__(obj)), None, None, fill_dict


def fill_dict(obj: dict[Any, Any], state: tuple[list[tuple[Any, Any]], Any]) -> None:
    """Items and attributes."""
    dict.update(obj, state[0])
    if state[1] is not None:
        fill_instance(obj, state[1])
