"""Kinds of the standard library that pickle refuses, or saves in a way that does not lead back."""

from __future__ import annotations

import _collections_abc
import ast
import collections
import functools
import gc
import itertools
import random
import struct
import weakref
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

from .generics import fill_attributes

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reduction


def _reduce_view(_pickler: GraphPickler, view: Any) -> Reduction:
    # `mapping` hides the dict itself.
    source = next(one for one in gc.get_referents(view) if isinstance(one, dict))
    kind, _, name = type(view).__name__.partition("_")
    return make_view, (name, source, kind == "odict")


def make_view(name: str, source: dict[Any, Any], is_ordered: bool) -> Any:
    """`d.keys()` and its kin."""
    return getattr(collections.OrderedDict if is_ordered else dict, name)(source)


def _reduce_proxy(_pickler: GraphPickler, proxy: MappingProxyType[Any, Any]) -> Reduction:
    own = proxy.get("__dict__")
    cls = getattr(own, "__objclass__", None)
    if isinstance(cls, type) and gc.get_referents(proxy)[0] is gc.get_referents(vars(cls))[0]:
        return vars, (cls,)
    return MappingProxyType, (gc.get_referents(proxy)[0],)


def _reduce_property(_pickler: GraphPickler, made: property) -> Reduction:
    return type(made), (made.fget, made.fset, made.fdel, made.__doc__)


def _reduce_wrapped(_pickler: GraphPickler, made: Any) -> Reduction:
    # Attributes that were copied from the function are copied again; others are few and none of Python's.
    return type(made), (made.__func__,)


def _reduce_cached_property(_pickler: GraphPickler, made: functools.cached_property[Any]) -> Reduction:
    # Without its lock, which Python 3.11 still has.
    state = {name: value for name, value in vars(made).items() if name not in ("lock", "func")}
    return type(made), (made.func,), state, None, None, fill_attributes


def _reduce_cache(pickler: GraphPickler, cached: Any) -> Reduction:
    # Its results are not to be had; it fills again.
    if pickler.references.find(cached) is not None:
        return NotImplemented
    parameters = cached.cache_parameters()
    state = {name: value for name, value in vars(cached).items() if name != "cache_parameters"}
    arguments = (cached.__wrapped__, parameters["maxsize"], parameters["typed"])
    return make_cache, arguments, state, None, None, fill_attributes


def make_cache(function: Any, most: int | None, typed: bool) -> Any:
    """`functools.lru_cache` around a function; empty."""
    return functools.lru_cache(most, typed)(function)


def _reduce_weak(_pickler: GraphPickler, reference: Any) -> Reduction:
    target = reference()
    if target is None:
        return make_dead, ()
    callback = reference.__callback__
    return type(reference), (target,) if callback is None else (target, callback)


class _Gone:
    pass


def make_dead() -> weakref.ref[Any]:
    """A weak reference to what is gone."""
    return weakref.ref(_Gone())


def _reduce_weak_method(_pickler: GraphPickler, reference: weakref.WeakMethod[Any]) -> Reduction:
    target = reference()
    return (make_dead, ()) if target is None else (weakref.WeakMethod, (target,))


def _reduce_weak_collection(_pickler: GraphPickler, made: Any) -> Reduction:
    # Filled afterwards: a key may hold the collection that it is a key of.
    content = list(made) if isinstance(made, weakref.WeakSet) else list(made.items())
    return type(made), (), content, None, None, fill_weak_collection


def fill_weak_collection(made: Any, content: list[Any]) -> None:
    """Members or items."""
    made.update(content)


def _reduce_memoryview(pickler: GraphPickler, view: memoryview) -> Reduction:
    source = view.obj
    whole = type(source) in (bytes, bytearray) and len(source) == view.nbytes  # type: ignore[arg-type]
    if not whole or not view.c_contiguous:
        return pickler.leave_out(view, "a view of a part of some memory")
    return make_memoryview, (source, view.format, view.shape, view.readonly)


def make_memoryview(source: Any, form: str, shape: tuple[int, ...], readonly: bool) -> memoryview:
    """A view of a whole `bytes` or `bytearray`."""
    view = memoryview(source)
    if form != "B" or len(shape) != 1:
        view = view.cast(form, shape)  # type: ignore[call-overload]
    return view.toreadonly() if readonly else view


def _reduce_list_iterator(pickler: GraphPickler, iterator: Any) -> Reduction:
    function, arguments, *position = pickler.ask(iterator)
    if not position or type(arguments[0]) is not list:
        return (function, arguments, *position)
    return make_list_iterator, (function, *arguments, *position)


def make_list_iterator(function: Any, source: list[Any], position: int) -> Any:
    """At its position once the load is done: now the list may be empty yet, if it holds its iterator."""
    iterator = function(source)
    _unplaced.append((iterator, source, position))
    return iterator


# Of the present load.
_unplaced: list[tuple[Any, list[Any], int]] = []


def place_iterators() -> None:
    """Sets the iterators that a load has made to their positions."""
    for iterator, source, position in _unplaced:
        length = len(source)
        # The list may have become shorter than that, and Python would cut the position to it.
        source.extend([None] * (position + 1 - length))
        iterator.__setstate__(position)
        del source[length:]
    _unplaced.clear()


def _reduce_count(pickler: GraphPickler, count: itertools.count[Any]) -> Reduction:
    # Its own reduce is deprecated. `repr` shows the state of numbers of the language's.
    inside = repr(count).removeprefix("count(").removesuffix(")")
    try:
        state = tuple(ast.literal_eval(number.strip()) for number in inside.split(","))
    except ValueError:
        return pickler.leave_out(count, "an iterator")
    return itertools.count, state


def _reduce_proxy_of_weak(pickler: GraphPickler, proxy: Any) -> Reduction:
    try:
        # A method that is looked up on it is bound to what it stands for.
        target = proxy.__init__.__self__
    except ReferenceError:
        return pickler.leave_out(proxy, "a weak proxy of what is gone")
    return weakref.proxy, (target,)


def _reduce_struct(_pickler: GraphPickler, made: struct.Struct) -> Reduction:
    return struct.Struct, (made.format,)


def _reduce_without_state(_pickler: GraphPickler, made: Any) -> Reduction:
    return type(made), ()


def _reduce_descriptor(_pickler: GraphPickler, descriptor: Any) -> Reduction:
    return find_descriptor, (descriptor.__objclass__, descriptor.__name__)


def find_descriptor(cls: type, name: str) -> Any:
    """What a class of C, or one with slots, has for an attribute."""
    return vars(cls)[name]


REDUCERS: dict[Any, Any] = {
    _collections_abc.dict_keys: _reduce_view,
    _collections_abc.dict_values: _reduce_view,
    _collections_abc.dict_items: _reduce_view,
    type(collections.OrderedDict().keys()): _reduce_view,
    type(collections.OrderedDict().values()): _reduce_view,
    type(collections.OrderedDict().items()): _reduce_view,
    MappingProxyType: _reduce_proxy,
    property: _reduce_property,
    classmethod: _reduce_wrapped,
    staticmethod: _reduce_wrapped,
    functools.cached_property: _reduce_cached_property,
    type(functools.lru_cache(_reduce_view)): _reduce_cache,
    weakref.ref: _reduce_weak,
    weakref.WeakMethod: _reduce_weak_method,
    weakref.WeakSet: _reduce_weak_collection,
    weakref.WeakKeyDictionary: _reduce_weak_collection,
    weakref.WeakValueDictionary: _reduce_weak_collection,
    memoryview: _reduce_memoryview,
    type(iter([])): _reduce_list_iterator,
    type(reversed([])): _reduce_list_iterator,
    itertools.count: _reduce_count,
    weakref.ProxyType: _reduce_proxy_of_weak,
    weakref.CallableProxyType: _reduce_proxy_of_weak,
    struct.Struct: _reduce_struct,
    random.SystemRandom: _reduce_without_state,
    GetSetDescriptorType: _reduce_descriptor,
    MemberDescriptorType: _reduce_descriptor,
}
