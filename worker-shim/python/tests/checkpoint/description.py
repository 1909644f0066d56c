"""A namespace in words that are the same in another process: values, and which of them are one object."""

from __future__ import annotations

import collections
import functools
import random
import types
import zlib
from typing import Any

import numpy as np
import pandas as pd

_ATOMS = (int, float, complex, str, bool, bytes, type(None))
# Of a list, a tuple, and of what has only `__getitem__`.
_ITERATORS: tuple[Any, ...] = (type(iter([])), type(iter(())), type(iter(np.empty(0))))
_NAMES_OF_PYTHON = frozenset(
    ["__builtins__", "__name__", "__doc__", "__loader__", "__package__", "__spec__", "__warningregistry__"]
)


def describe(namespace: dict[str, Any]) -> dict[str, str]:
    """Each variable, in the order of their names. An object is told once, and is a number from then on."""
    teller = _Teller(namespace)
    names = sorted(name for name in namespace if name not in _NAMES_OF_PYTHON)
    return {name: teller.tell(namespace[name]) for name in names}


class _Teller:
    def __init__(self, namespace: dict[str, Any]) -> None:
        self._numbers: dict[int, int] = {id(namespace): -1}
        self._alive: list[Any] = []

    def tell(self, obj: Any) -> str:
        cls = type(obj)
        if cls in _ATOMS or isinstance(obj, np.generic):
            return f"{cls.__name__} {obj!r}"
        number = self._numbers.get(id(obj))
        if number is not None:
            return f"#{number}"
        number = self._numbers[id(obj)] = len(self._numbers)
        # An object that is made for this must not free its identity for another.
        self._alive.append(obj)
        return f"#{number}={self._content(cls, obj)}"

    def _all(self, objects: Any) -> str:
        return "(" + ", ".join(self.tell(one) for one in objects) + ")"

    def _content(self, cls: type, obj: Any) -> str:
        if cls in (list, tuple, collections.deque):
            return cls.__name__ + self._all(obj)
        if cls in (dict, collections.defaultdict):
            return cls.__name__ + "".join(self._all(item) for item in obj.items())
        if cls in (set, frozenset):
            return cls.__name__ + self._all(sorted(obj, key=_place))
        if cls is np.ndarray:
            return self._array(obj)
        if cls in (pd.DataFrame, pd.Series, pd.Index, pd.RangeIndex):
            return self._table(obj)
        if isinstance(obj, types.FunctionType):
            return self._function(obj)
        if isinstance(obj, type):
            return self._class(obj)
        return f"{cls.__name__} {self._parts(cls, obj)}"

    def _parts(self, cls: Any, obj: Any) -> str:
        if cls is bytearray:
            return bytes(obj).hex()
        if cls is memoryview:
            return self.tell(obj.obj)
        if cls is types.MethodType or cls is types.BuiltinMethodType:
            return self._all((obj.__self__, obj.__name__))
        if cls is types.CellType:
            return self.tell(obj.cell_contents)
        if cls is functools.partial:
            return self._all((obj.func, obj.args, obj.keywords))
        if cls is random.Random:
            return _short(obj.getstate())
        if cls in _ITERATORS:
            _, arguments, *position = obj.__reduce__()
            return self._all((*arguments, *position)) if len(arguments[0]) else "of nothing"
        if cls in (type({}.keys()), type({}.values()), type({}.items())):
            return self.tell(obj.mapping.copy())
        if cls is types.ModuleType:
            return str(obj.__name__)
        if cls.__module__ == "__main__":
            return self.tell(cls) + self.tell(vars(obj))
        return str(repr(obj))

    def _array(self, array: Any) -> str:
        if array.size == 0:
            return f"array {array.dtype.str} {array.shape} of nothing"
        base = array.base
        # What `as_strided` puts between.
        while type(base).__name__ == "DummyArray":
            base = base.base if base.base.base is None else base.base.base
        while base is not None and not isinstance(base, (np.ndarray, bytearray)):
            # A memoryview. What a restore maps is nobody's.
            base = getattr(base, "obj", None)
        elements = self._all(array.flat) if array.dtype.hasobject else _short(array.tobytes())
        words = f"{array.dtype.str} {array.shape} {_steps(array)} {array.flags.writeable} {elements}"
        if base is None:
            return f"array {words}"
        memory = base if isinstance(base, np.ndarray) else np.frombuffer(base, "u1")
        return f"view {words} at {_address(array) - _address(memory)} of {self.tell(base)}"

    def _table(self, table: Any) -> str:
        kind = type(table).__name__
        if isinstance(table, pd.Index):
            return f"{kind} {table.dtype} {table.tolist()} {table.name}"
        index = self.tell(table.index)
        columns = [table] if isinstance(table, pd.Series) else [column for _, column in table.items()]
        told = [f"{one.name} {one.dtype} {self._column(one)}" for one in columns]
        return f"{kind} {index} {told}"

    def _column(self, column: Any) -> str:
        values = column.tolist()
        return self._all(values) if column.dtype == object else _short(values)

    def _function(self, function: types.FunctionType) -> str:
        return f"{function.__qualname__} {function.__code__.co_code.hex()}" + self._all(
            (
                function.__defaults__,
                list(function.__closure__ or ()),
                function.__dict__,
                function.__globals__,
            )
        )

    def _class(self, cls: type) -> str:
        if cls.__module__ != "__main__":
            return f"{cls.__module__}.{cls.__qualname__}"
        content = {
            name: value
            for name, value in sorted(vars(cls).items())
            if name not in ("__dict__", "__weakref__", "__module__", "__doc__")
            # What versions of Python write down for themselves.
            and name not in ("__static_attributes__", "__firstlineno__", "__slotnames__")
        }
        return f"class {cls.__qualname__}" + self._all((cls.__bases__, content))


def _steps(array: Any) -> list[int]:
    """The strides that say where an element is: not those of a dimension of one."""
    return [stride for length, stride in zip(array.shape, array.strides, strict=True) if length != 1]


def _short(value: Any) -> str:
    """`hash` would be another in each process, of None or a NaN too."""
    return f"{zlib.crc32(repr(value).encode()):08x}"


def _place(member: Any) -> str:
    """Where a set's member is told: instances have a number of their own for this."""
    if type(member) in (*_ATOMS, tuple):
        return repr(member)
    return f"~{type(member).__name__} {getattr(member, 'serial', 0):06}"


def _address(array: Any) -> int:
    address = array.__array_interface__["data"][0]
    assert isinstance(address, int)
    return address
