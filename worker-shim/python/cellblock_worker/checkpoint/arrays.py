"""NumPy arrays: memory is saved once, and whatever shares it shares it again.

An array that owns its memory is saved as a flat buffer with its shape; every other as a view: the owner,
where in it, shape, strides. Pickle's own way makes copies of views, and copies what is not contiguous.
NumPy is never imported for this: without it there are no arrays.
"""

from __future__ import annotations

import math
import pickle
from typing import TYPE_CHECKING, Any

from .references import loaded

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reducer, Reduction

# What decides how an array of a class is pickled; a class that defines any of it knows better.
_OWN_WAY = ("__reduce__", "__reduce_ex__", "__setstate__", "__getstate__")

# Saved as what they are, since a variable may hold them too.
_PLAIN_MEMORY = (bytes, bytearray)


def reducer_for(cls: type) -> Reducer | None:
    """For arrays and their subclasses."""
    ndarray = loaded("numpy", "ndarray")
    if ndarray is None:
        return None
    if issubclass(cls, ndarray):
        # Of a masked array `__dict__` says all; its own way makes a copy.
        known = (ndarray, loaded("numpy.ma", "MaskedArray"), object)
        bases = [base for base in cls.__mro__ if base not in known]
        own = any(name in base.__dict__ for base in bases for name in _OWN_WAY)
        return None if own else reduce_array
    if cls is loaded("numpy", "void"):
        return reduce_record
    if issubclass(cls, loaded("numpy", "generic")) and cls.__module__ == "numpy":
        return lambda _pickler, _scalar: NotImplemented
    return None


class Sources:
    """Memory that belongs to no array (a `bytearray`, a mapping, memory of a library), for one save.

    If the first array on it is on all of it, as after a restore, it counts as the owner, and all others are
    saved as views of it; else all are views of one flat array.
    """

    def __init__(self) -> None:
        # By address and size: each look at some memory may be through another object.
        self._flat: dict[tuple[int, int], Any] = {}
        self._owners: set[int] = set()

    def owner(self, memory: Any, first: Any) -> Any:
        """The array that stands for some memory on which another is; None if it does not show its bytes."""
        try:
            flat = loaded("numpy", "frombuffer")(memory, "u1")
        except Exception:
            return None
        place = (_address(flat), flat.nbytes)
        if place not in self._flat:
            plain = first.view(loaded("numpy", "ndarray"))
            is_whole = (
                type(memory) not in _PLAIN_MEMORY and _extent(plain) == _extent(flat) and _has_no_gaps(plain)
            )
            self._flat[place] = first if is_whole else flat
            self._owners.add(id(self._flat[place]))
        return self._flat[place]

    def is_owner(self, array: Any) -> bool:
        """Whether an array is one of these."""
        return id(array) in self._owners


def reduce_array(pickler: GraphPickler, array: Any) -> Reduction:
    """An array of any class that does not know better."""
    cls = type(array)
    ndarray = loaded("numpy", "ndarray")
    plain = array if cls is ndarray else array.view(ndarray)
    if plain.dtype.kind == "T" or (plain.dtype.hasobject and cls is not ndarray):
        return pickler.ask(array)
    state = None if cls is ndarray else _state(array)
    owner = _owner(array)
    if plain.nbytes == 0 and not plain.dtype.hasobject:
        return (
            make_empty,
            (cls, plain.shape, plain.dtype, plain.flags.writeable),
            state,
            None,
            None,
            fill_array,
        )
    if owner is not array:
        return _reduce_view(pickler, array, plain, owner, state)
    if plain.dtype.hasobject:
        return _reduce_objects(pickler, array)
    if cls is loaded("numpy", "memmap") and array.filename is not None and array.mode != "c":
        return _reduce_mapped(array)
    if array.base is not None and not pickler.sources.is_owner(array):
        return _reduce_on_foreign(pickler, array, plain, state)
    return _reduce_owner(array, plain, state)


def reduce_record(_pickler: GraphPickler, record: Any) -> Reduction:
    """One record of an array, which shares its memory."""
    ndarray = loaded("numpy", "ndarray")
    array = getattr(record, "base", None)
    if not isinstance(array, ndarray) or record.dtype.hasobject:
        return NotImplemented
    plain = array if type(array) is ndarray else array.view(ndarray)
    flat = _flat(plain)
    start = _address(record) - _address(plain)
    if flat is None or not 0 <= start <= flat.nbytes - record.nbytes:
        return NotImplemented
    return take_record, (ndarray((), record.dtype, flat, start),)


def take_record(array: Any) -> Any:
    """The record that an array without dimensions shows."""
    return array[()]


def _state(array: Any) -> dict[str, Any] | None:
    """What a subclass keeps beside its elements; of `memmap` not the mapping."""
    state = getattr(array, "__dict__", None) or {}
    return {name: value for name, value in state.items() if name != "_mmap"} or None


def _owner(array: Any) -> Any:
    """The array whose memory it is."""
    ndarray = loaded("numpy", "ndarray")
    owner = array
    while True:
        base = owner.base
        if type(base).__name__ == "DummyArray":
            # How NumPy's `as_strided` holds on to an array.
            base = base.base
        elif type(base) is memoryview:
            base = base.obj
        if not isinstance(base, ndarray):
            return owner
        owner = base


def _address(array: Any) -> int:
    address = array.__array_interface__["data"][0]
    assert isinstance(address, int)
    return address


def _extent(array: Any) -> tuple[int, int]:
    """From its lowest byte to behind its highest."""
    low = high = _address(array)
    for length, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (length - 1) * stride
        else:
            high += (length - 1) * stride
    return low, high + array.itemsize


def _has_no_gaps(plain: Any) -> bool:
    low, high = _extent(plain)
    return high - low == plain.nbytes and _flat(plain) is not None


def _flat(plain: Any) -> Any:
    """All its memory in order, as bytes; None if there are gaps."""
    flat = plain.ravel("K")
    return flat.view("u1") if _address(flat) == _address(plain) and flat.base is not None else None


def _reduce_owner(array: Any, plain: Any, state: Any) -> Reduction:
    flat, strides = _flat(plain), plain.strides
    if flat is None:
        flat, strides = loaded("numpy", "ascontiguousarray")(plain).reshape(-1).view("u1"), None
    arguments = (
        type(array),
        pickle.PickleBuffer(flat),
        plain.dtype,
        plain.shape,
        strides,
        plain.flags.writeable,
    )
    return make_owner, arguments, state, None, None, fill_array


def _reduce_view(pickler: GraphPickler, array: Any, plain: Any, owner: Any, state: Any) -> Reduction:
    ndarray = loaded("numpy", "ndarray")
    low, high = _extent(plain)
    bottom, top = _extent(owner)
    whole = owner if type(owner) is ndarray else owner.view(ndarray)
    objects = plain.dtype.hasobject
    fits = bottom <= low and high <= top and whole.ravel("K").base is not None
    if not fits or (objects and plain.dtype != whole.dtype) or (whole.dtype.hasobject and not objects):
        # A field of records that hold objects, or memory with gaps: a copy.
        return pickler.ask(array) if objects else _reduce_owner(array, plain, state)
    start = _address(plain) - bottom
    arguments = (type(array), owner, plain.dtype, plain.shape, plain.strides, start, plain.flags.writeable)
    if objects and plain.size == 0:
        return pickler.ask(array)
    return make_view, arguments, state, None, None, fill_array


def _reduce_on_foreign(pickler: GraphPickler, array: Any, plain: Any, state: Any) -> Reduction:
    memory = array.base
    if type(memory) is memoryview and type(memory.obj) in _PLAIN_MEMORY:
        memory = memory.obj
    flat = pickler.sources.owner(memory, array)
    if flat is array:
        return _reduce_owner(array, plain, state)
    if flat is not None:
        low, high = _extent(plain)
        bottom, top = _extent(flat)
        # What shows its memory to read only may still have let an array write.
        readable = flat.flags.writeable or not plain.flags.writeable
        if bottom <= low and high <= top and readable:
            source = memory if type(memory) in _PLAIN_MEMORY else flat
            start, writeable = _address(plain) - bottom, plain.flags.writeable
            arguments = (type(array), source, plain.dtype, plain.shape, plain.strides, start, writeable)
            return make_view, arguments, state, None, None, fill_array
    return _reduce_owner(array, plain, state)


def _reduce_objects(pickler: GraphPickler, array: Any) -> Reduction:
    reduction = pickler.ask(array)
    if array.flags.writeable or len(reduction) != 3:
        return reduction
    return (*reduction, None, None, fill_locked)


def fill_locked(array: Any, state: Any) -> None:
    """An array of objects that cannot be written."""
    array.__setstate__(state)
    array.flags.writeable = False


def _reduce_mapped(array: Any) -> Reduction:
    mode = "r" if array.mode == "r" else "r+"
    return make_mapped, (str(array.filename), array.dtype, mode, array.offset, array.shape, _order(array))


def _order(array: Any) -> str:
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def make_owner(
    cls: Any, buffer: Any, dtype: Any, shape: tuple[int, ...], strides: Any, is_writeable: bool
) -> Any:
    """An array on a buffer of its own."""
    ndarray = loaded("numpy", "ndarray")
    if isinstance(buffer, (bytes, bytearray)):
        # A small one, out of the stream. A copy owns its memory: it can be resized in place.
        array = ndarray(shape, dtype, buffer, 0, strides).copy("K")
    else:
        array = ndarray(shape, dtype, buffer, 0, strides)
    if cls is not ndarray:
        array = array.view(cls)
    if not is_writeable:
        array.flags.writeable = False
    return array


def make_view(
    cls: Any,
    owner: Any,
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    start: int,
    is_writeable: bool,
) -> Any:
    """An array on the memory of another, or of `bytes` or a `bytearray`."""
    import numpy as np

    # The owner may have been locked when there was a view already, which stays open.
    is_locked = is_writeable and isinstance(owner, np.ndarray) and not owner.flags.writeable
    if is_locked:
        owner.flags.writeable = True
    if dtype.hasobject:
        array = _view_of_objects(owner, shape, strides, start)
    else:
        # `frombuffer` keeps a `bytearray` from being resized, which would free this memory.
        flat = owner.view(np.ndarray).ravel("K").view("u1") if isinstance(owner, np.ndarray) else None
        if flat is None and len(shape) == 1 and strides[0] == dtype.itemsize:
            array = np.frombuffer(owner, dtype, shape[0], start)
        else:
            memory = np.frombuffer(owner, "u1") if flat is None else flat
            array = np.ndarray(shape, dtype, memory, start, strides)
    if cls is not np.ndarray:
        array = array.view(cls)
    if array.flags.writeable != is_writeable:
        array.flags.writeable = is_writeable
    if is_locked:
        owner.flags.writeable = False
    return array


def _view_of_objects(owner: Any, shape: tuple[int, ...], strides: tuple[int, ...], start: int) -> Any:
    """NumPy makes no array of objects on a buffer; the first element is a whole number of them away."""
    import numpy as np

    flat, size = owner.ravel("K"), owner.dtype.itemsize
    first = start // size
    # By indexing where it can be, so that the owner is the base.
    if len(shape) == 1 and strides[0]:
        return flat[first :: strides[0] // size][: shape[0]]
    part = flat[first : first + math.prod(shape)]
    if part.size == math.prod(shape):
        for order in ("C", "F"):
            view = part.reshape(shape, order=order)
            if _steps(view.shape, view.strides) == _steps(shape, strides):
                return view
    return np.lib.stride_tricks.as_strided(flat[first:], shape, strides)


def _steps(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """The strides that say where an element is: not those of a dimension of one."""
    return [stride for length, stride in zip(shape, strides, strict=True) if length != 1]


def make_empty(cls: Any, shape: tuple[int, ...], dtype: Any, is_writeable: bool) -> Any:
    """An array without any bytes."""
    import numpy as np

    array = np.empty(shape, dtype)
    array = array if cls is np.ndarray else array.view(cls)
    array.flags.writeable = is_writeable
    return array


def make_mapped(path: str, dtype: Any, mode: str, offset: int, shape: tuple[int, ...], order: Any) -> Any:
    """`numpy.memmap` of the file as it is now."""
    import numpy as np

    return np.memmap(path, dtype, mode, offset, shape, order)  # type: ignore[call-overload]


def fill_array(array: Any, state: dict[str, Any]) -> None:
    """What a subclass keeps beside its elements."""
    array.__dict__.update(state)
