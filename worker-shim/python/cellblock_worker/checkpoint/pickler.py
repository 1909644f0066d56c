"""The pickler: CPython's own in C, asked for our opinion only about what is not a plain builtin.

For each type it decides once how its instances are saved, and keeps that by the type's identity: a user's
metaclass may have an `__eq__`. What cannot be saved becomes a tombstone in the same pass.
"""

from __future__ import annotations

import collections
import copyreg
import datetime
import decimal
import enum
import fractions
import io
import pickle
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

from cellblock_worker import names
from cellblock_worker.alarm import OutOfTime

from . import (
    arrays,
    charts,
    classes,
    deep,
    exceptions,
    files,
    frames,
    functions,
    generics,
    instances,
    left_out,
    standard,
)
from .blobs import content_of
from .classes import HEAP, owner_of
from .references import References, named
from .roots import Roots
from .tombstone import Tombstone

# Smaller buffers stay in the stream: each of the others costs a mapping at the restore.
OUT_OF_BAND_BYTES = 32 << 10

# What takes longer to say how it is saved has no part in being saved when time is short.
_SLOW_SECONDS = 1

Reduction = Any  # what `reducer_override` gives: a reduce tuple, a name, or NotImplemented
Reducer = Callable[["GraphPickler", Any], Reduction]


@dataclass(frozen=True)
class LeftOut:
    """One object that was not saved."""

    obj: Any
    kind: str
    reason: str


def _native(_pickler: GraphPickler, _obj: Any) -> Reduction:
    """C's own way, which cannot fail for these."""
    return NotImplemented


# Their own reduce neither fails nor runs code of the user's.
_TRUSTED = (
    complex,
    range,
    slice,
    collections.OrderedDict,
    collections.deque,
    collections.defaultdict,
    collections.Counter,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    decimal.Decimal,
    fractions.Fraction,
)


def _tables(*tables: dict[Any, Any]) -> tuple[dict[Any, Any], ...]:
    return tables


_REDUCERS: dict[int, Reducer] = {
    id(cls): reduce
    for table in _tables(
        dict.fromkeys(_TRUSTED, _native),
        functions.REDUCERS,
        generics.REDUCERS,
        standard.REDUCERS,
        files.REDUCERS,
    )
    for cls, reduce in table.items()
}

# By what an instance's class derives from; the first that fits.
_FAMILIES: tuple[tuple[type, Reducer], ...] = (
    (type, classes.reduce_class),
    (enum.Enum, classes.reduce_member),
    (ModuleType, functions.reduce_module),
    (weakref.ref, standard.REDUCERS[weakref.ref]),
    (BaseException, exceptions.reduce_exception),
)

# What decides how an instance is pickled. If all are C's, all instances of a type are alike.
_DECIDING = (
    "__reduce_ex__ __reduce__ __getstate__ __getnewargs__ __getnewargs_ex__ __getattribute__ __getattr__ "
    "__class__"
).split()


class _Taker:
    """Takes the large buffers."""

    def __init__(self, buffers: list[pickle.PickleBuffer]) -> None:
        self._buffers = buffers

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether a buffer stays in the stream."""
        if memoryview(buffer).nbytes < OUT_OF_BAND_BYTES:
            return True
        self._buffers.append(buffer)
        return False


class GraphPickler(pickle.Pickler):
    """Pickles a namespace into `file`, large buffers into `buffers`."""

    def __init__(self, file: io.BytesIO, references: References, roots: Roots, blobs: list[Any]) -> None:
        self.buffers: list[pickle.PickleBuffer] = []
        # No method of its own: with a cycle, the pickler would keep all it has seen alive until a collection.
        super().__init__(file, pickle.HIGHEST_PROTOCOL, buffer_callback=_Taker(self.buffers))
        self.references = references
        self.left_out: list[LeftOut] = []
        # By the identity of a type; each is kept alive, so that no other gets its identity.
        self._reducers: dict[int, Reducer] = dict(_REDUCERS)
        self._alive: list[Any] = []
        self.sources = arrays.Sources()
        memo = roots.memo()
        memo.update({id(blob): (len(memo) + at, blob) for at, blob in enumerate(blobs)})
        self.buffers.extend(map(content_of, blobs))
        self.memo = memo

    def reducer_override(self, obj: Any) -> Reduction:
        """How an object is saved that is not one of the plain builtins."""
        if type(obj) in (FunctionType, MethodType) and (place := self.references.place_of_own(obj)):
            return named, place
        reduce = self._reducers.get(id(type(obj)))
        if reduce is _native:
            return NotImplemented
        try:
            if reduce is None:
                reduce = self._decide(type(obj), obj)
            return reduce(self, obj)
        except (RecursionError, MemoryError, KeyboardInterrupt, OutOfTime):
            raise
        except BaseException as error:
            # Code of the user's runs here: it may even `sys.exit()`.
            return self.leave_out(obj, _said(error))

    def dump_empty(self, instances: list[Any]) -> None:
        """From now on these plain instances are saved without their attributes, which come later."""
        empty = {id(instance) for instance in instances}
        self._alive.extend(instances)

        def choose(_pickler: GraphPickler, obj: Any) -> Reduction:
            return (_newobj, (type(obj),)) if id(obj) in empty else NotImplemented

        for instance in instances:
            self._reducers[id(type(instance))] = choose
        self._reducers[id(deep.Late)] = deep.reduce_late

    def refuse(self, cls: type, reason: str) -> None:
        """From now on instances of just this class are left out."""
        self._alive.append(cls)
        self._reducers[id(cls)] = lambda pickler, obj: pickler.leave_out(obj, reason)

    def leave_out(self, obj: Any, reason: str) -> Reduction:
        """A tombstone in its place."""
        kind = names.kind_of(obj)
        self.left_out.append(LeftOut(obj, kind, reason))
        return Tombstone, (kind, reason)

    def ask(self, obj: Any) -> Reduction:
        """What an object says of itself, if pickle could use it."""
        registered, began = _registered(type(obj)), time.monotonic()
        try:
            reduction = registered(obj) if registered is not None else obj.__reduce_ex__(self._protocol)
        except OutOfTime as over:
            if time.monotonic() - began > _SLOW_SECONDS:
                over.args = (type(obj),)
            raise
        if type(reduction) is str:
            module = getattr(obj, "__module__", None) or type(obj).__module__
            if self.references.leads_to(module, reduction, obj):
                return reduction
            holder = self.references.holder_of(reduction, obj)
            return (named, (holder, reduction)) if holder else classes.reduce_by_state(self, obj)
        fault = _fault(reduction)
        return reduction if fault is None else self.leave_out(obj, fault)

    _protocol = pickle.HIGHEST_PROTOCOL

    def _decide(self, cls: type, first: Any) -> Reducer:
        reduce = self._reducer_for(cls)
        if reduce is _native:
            # What C keeps in an instance it cannot save, and says so of each instance alike.
            try:
                first.__reduce_ex__(self._protocol)
            except Exception:
                reduce = GraphPickler.ask
        held = {} if issubclass(cls, type) else self.references.instances_held(cls)
        if held:
            reduce = _held_or(held, reduce)
        self._alive.append(cls)
        self._reducers[id(cls)] = reduce
        return reduce

    def _reducer_for(self, cls: type) -> Reducer:
        for family, reduce in _FAMILIES:
            if issubclass(cls, family):
                return reduce
        reason = left_out.reason_of(cls)
        if reason is not None:
            return lambda pickler, obj: pickler.leave_out(obj, reason)
        special = arrays.reducer_for(cls) or frames.reducer_for(cls) or charts.reducer_for(cls)
        if special is not None:
            return special
        if _registered(cls) is not None:
            return GraphPickler.ask
        if _has_no_say(cls):
            filled = instances.reducer_for(cls, is_by_value=self.references.find(cls) is None)
            if filled is not None:
                return filled
            # C's own way asks the metaclass for the class's hash.
            if is_plain(cls) and type(cls).__hash__ is type.__hash__:
                return _native
        return classes.reduce_by_state if _answers_to_all(cls) else GraphPickler.ask


# What C's pickler writes as one opcode.
_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]


def _registered(cls: type) -> Callable[[Any], Any] | None:
    """What somebody has registered with `copyreg` for a class."""
    try:
        return copyreg.dispatch_table.get(cls)
    except Exception:  # of a metaclass without a hash
        return None


def is_plain(cls: type) -> bool:
    """Whether instances are a `__dict__` and slots, made by Python code of no say in how they are pickled."""
    return _has_no_say(cls) and owner_of(cls, "__new__") in _PLAIN_NEW


def _has_no_say(cls: type) -> bool:
    return bool(cls.__flags__ & HEAP) and all(owner_of(cls, name) in _PLAIN for name in _DECIDING)


def _answers_to_all(cls: type) -> bool:
    """Whether only an attribute hook stands between a class and being plain."""
    hooks = ("__getattr__", "__getattribute__")
    others = [name for name in (*_DECIDING, "__new__") if name not in hooks]
    # C's own hook is no hook: every type of C has one.
    is_hooked = any(type(owner_of(cls, name).__dict__.get(name)) is FunctionType for name in hooks)
    return is_hooked and all(owner_of(cls, name) is object for name in others)


_PLAIN = (object, dict, list, tuple, set, frozenset, int, float, str, bytes, BaseException)
_PLAIN_NEW = (object, dict, list, tuple, int, float, str, bytes)


def _held_or(held: dict[int, tuple[str, str]], reduce: Reducer) -> Reducer:
    """By the name in its module for what the module holds, for other instances the ordinary way."""

    def choose(pickler: GraphPickler, obj: Any) -> Reduction:
        found = held.get(id(obj))
        if found is None:
            return reduce(pickler, obj)
        return named, found

    return choose


def _fault(reduction: Any) -> str | None:
    """Why pickle would refuse what an object says of itself."""
    if type(reduction) is not tuple or not 2 <= len(reduction) <= 6:
        return "its __reduce_ex__ gives no tuple of two to six"
    function, arguments, *more = reduction
    if not callable(function) or type(arguments) is not tuple:
        return "its __reduce_ex__ gives no function with its arguments"
    items = [part for part in more[1:3] if part is not None]
    if any(not hasattr(part, "__next__") for part in items):
        return "its __reduce_ex__ gives no iterator"
    if len(more) == 4 and more[3] is not None and not callable(more[3]):
        return "its __reduce_ex__ gives no function for its state"
    return None


def _said(error: BaseException) -> str:
    """One line for a reason."""
    try:
        text = str(error).partition("\n")[0]
    except Exception:
        text = ""
    return (text or type(error).__name__)[:300]
