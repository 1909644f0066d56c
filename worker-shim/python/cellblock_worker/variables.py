"""The user's names with their values in short, for an editor's list of variables.

Nothing here runs user code: only values of types that Python, numpy, pandas, polars and Arrow define
themselves are looked into, by exact type. It is cheap enough to be asked for after each cell, and bounded.
"""

from __future__ import annotations

import datetime
import itertools
import json
import time
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from .names import NAME_CHARACTERS, Snapshot, bytes_of, kind_of, of_package

# The whole answer must fit into one message.
ANSWER_BYTES = 96 << 10
NAMES = 2_000
# After so many seconds names come without their values.
SECONDS = 0.05

# What an entry takes besides its texts, and a column besides its own, about.
ENTRY_BYTES = 76
COLUMN_BYTES = 8
PREVIEW_CHARACTERS = 120
ITEM_CHARACTERS = 40
ITEMS = 8
COLUMNS = 100

Described = tuple["list[int] | None", "str | None", "list[tuple[str, str]]"]
_NOTHING: Described = (None, None, [])


def listing(found: Snapshot, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """The wire form of all names, sorted."""
    room = ANSWER_BYTES
    while True:
        variables = _listing(found, namespace, room)
        # Escaped characters take more than was reckoned with: measure what will really be sent.
        text = json.dumps(variables, ensure_ascii=False, separators=(",", ":"))
        if len(text.encode("utf-8", "replace")) <= ANSWER_BYTES:
            return variables
        room //= 2


def _listing(found: Snapshot, namespace: dict[str, Any], room: int) -> list[dict[str, Any]]:
    variables: list[dict[str, Any]] = []
    left, until = room, time.monotonic() + SECONDS
    names = sorted(found)
    # A name and its type, about.
    reserved = ENTRY_BYTES + 20 + sum(map(len, names)) // max(len(names), 1)
    for at, name in enumerate(names):
        if name not in namespace:  # a background task has just removed it
            continue
        value = namespace[name]
        kind = kind_of(value)
        shown = name if len(name) <= NAME_CHARACTERS else f"{name[:NAME_CHARACTERS]}…"
        left -= len(shown) + len(kind) + ENTRY_BYTES
        # What is left when all further names have theirs is for values.
        spare = left - reserved * (len(names) - at - 1)
        shape, preview, columns = (
            _described(value, kind) if spare > 0 and time.monotonic() < until else _NOTHING
        )
        width = sum(len(label) + len(dtype) + COLUMN_BYTES for label, dtype in columns)
        if width > max(spare, 0) // 8:
            columns, width = [], 0
        left -= len(preview or "") + width
        if left < 0 or at >= NAMES:
            variables.append(_entry(f"… {len(names) - at} more names", "", None, _NOTHING))
            break
        variables.append(_entry(shown, kind, bytes_of(value), (shape, preview, columns)))
    return variables


def _entry(name: str, kind: str, size: int | None, described: Described) -> dict[str, Any]:
    shape, preview, columns = described
    return {"name": name, "kind": kind, "bytes": size, "shape": shape, "preview": preview, "columns": columns}


def _described(value: Any, kind: str) -> Described:
    try:
        describe = _BUILTIN.get(id(type(value))) or _of_package(value, kind)
        return _NOTHING if describe is None else describe(value)
    except Exception:
        # A container that another thread changes, a frame in the middle of being built.
        return _NOTHING


def _of_package(value: Any, kind: str) -> Callable[[Any], Described] | None:
    """What describes a value of a package that is loaded. None is imported for this."""
    describe = _PACKAGED.get(kind)
    if describe is None:
        return _numpy_scalar if kind.startswith("numpy.") and _is_numpy_scalar(value) else None
    package, _, name = kind.partition(".")
    # The name alone proves nothing: a user's class may call itself what it likes.
    return describe if of_package(package, name) is type(value) else None


# Python's own.

# By identity: a look-up by type would ask a metaclass of the user's for its `__hash__` and `__eq__`.
_BRACKETS = {
    id(cls): both for cls, both in ((list, "[]"), (tuple, "()"), (dict, "{}"), (set, "{}"), (frozenset, "{}"))
}
_QUOTED = (id(str), id(bytes))
_PLAIN = tuple(map(id, (int, float, complex, bool, type(None))))


def _number(value: Any) -> Described:
    if type(value) is int and value.bit_length() > 400:
        return None, f"{value.bit_length()} bits", []
    return None, repr(value), []


def _text(value: Any) -> Described:
    return [len(value)], _shortened(value, PREVIEW_CHARACTERS), []


def _sequence(value: Any) -> Described:
    return [len(value)], _joined(value, len(value), _item, _BRACKETS[id(type(value))]), []


def _mapping(value: Any) -> Described:
    return (
        [len(value)],
        _joined(value.items(), len(value), lambda pair: ": ".join(map(_item, pair)), "{}"),
        [],
    )


def _joined(items: Iterable[Any], count: int, show: Callable[[Any], str], brackets: str) -> str:
    shown: list[str] = []
    room = PREVIEW_CHARACTERS
    for item in itertools.islice(items, ITEMS):
        text = show(item)
        room -= len(text) + 2
        if room < 0:
            break
        shown.append(text)
    if len(shown) < count:
        shown.append("…")
    return brackets[0] + ", ".join(shown) + brackets[1]


def _item(value: Any) -> str:
    cls = id(type(value))
    if cls in _QUOTED:
        return _shortened(value, ITEM_CHARACTERS)
    if cls in _BRACKETS:
        return _BRACKETS[cls][0] + ("…" if value else "") + _BRACKETS[cls][1]
    if cls in _PLAIN:
        return str(_number(value)[1])
    return f"<{kind_of(value)}>"


def _shortened(value: Any, limit: int) -> str:
    return repr(value) if len(value) <= limit else f"{value[:limit]!r}…"


def _moment(value: Any) -> Described:
    zone = getattr(value, "tzinfo", None)
    # A zone of the user's would be asked for its name.
    return (None, str(value), []) if zone is None or type(zone) is datetime.timezone else _NOTHING


def _range(value: range) -> Described:
    return [len(value)], repr(value), []


def _function(value: FunctionType) -> Described:
    code = value.__code__
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return None, f"{value.__name__}({', '.join(arguments)})"[:PREVIEW_CHARACTERS], []


def _builtin_function(value: BuiltinFunctionType) -> Described:
    return None, value.__name__[:PREVIEW_CHARACTERS], []


def _module(value: ModuleType) -> Described:
    name = vars(value).get("__name__")
    return None, name[:PREVIEW_CHARACTERS] if type(name) is str else None, []


_BUILTIN: dict[int, Callable[[Any], Described]] = {
    id(cls): describe
    for describe, classes in (
        (_number, (int, float, complex, bool, type(None))),
        (_text, (str, bytes, bytearray)),
        (_sequence, (list, tuple, set, frozenset)),
        (_mapping, (dict,)),
        (_moment, (datetime.date, datetime.datetime, datetime.time, datetime.timedelta)),
        (_range, (range,)),
        (_function, (FunctionType,)),
        (_builtin_function, (BuiltinFunctionType,)),
        (_module, (ModuleType,)),
    )
    for cls in classes
}


# Arrays and tables.


def _is_numpy_scalar(value: Any) -> bool:
    # Of numpy's own: a subclass of the user's has methods of its own.
    name = kind_of(value).removeprefix("numpy.")
    return of_package("numpy", name) is type(value) and isinstance(value, of_package("numpy", "generic"))


def _numpy_scalar(value: Any) -> Described:
    return None, repr(value.item())[:PREVIEW_CHARACTERS] if value.dtype.kind in "biufcMm" else None, []


def _array(value: Any) -> Described:
    preview = _dtype(value.dtype)
    if value.dtype.kind in "biufc":
        # Python's own numbers by now.
        first = ", ".join(map(repr, value.flat[:ITEMS].tolist()))
        preview = f"{preview} [{first}{', …' if value.size > ITEMS else ''}]"
    return list(value.shape), preview[:PREVIEW_CHARACTERS], []


def _frame(value: Any) -> Described:
    # Not `.dtypes`: it makes a Series, which takes longer than all the rest.
    index, kinds = value.columns, value._mgr.get_dtypes()
    index = index if len(index) <= COLUMNS else index[:COLUMNS]
    # pandas 3 keeps texts in Arrow, and its own way from there takes four times as long.
    arrow = getattr(index.array, "_pa_array", None)
    labels = index.tolist() if arrow is None else arrow.to_pylist()
    columns = [
        (_label(label), _dtype(kind))
        for label, kind in itertools.islice(zip(labels, kinds, strict=False), COLUMNS)
    ]
    return list(value.shape), _columns_line(columns, value.shape), columns


def _series(value: Any) -> Described:
    return [len(value.index)], f"{_dtype(value.dtype)}, name {_label(value.name)}", []


def _index(value: Any) -> Described:
    return [len(value)], _dtype(value.dtype), []


def _polars_frame(value: Any) -> Described:
    columns = [
        (name[:ITEM_CHARACTERS], str(kind)[:ITEM_CHARACTERS])
        for name, kind in itertools.islice(value.schema.items(), COLUMNS)
    ]
    return list(value.shape), _columns_line(columns, value.shape), columns


def _arrow_table(value: Any) -> Described:
    columns = [
        (field.name[:ITEM_CHARACTERS], str(field.type)[:ITEM_CHARACTERS])
        for field in itertools.islice(value.schema, COLUMNS)
    ]
    shape = (value.num_rows, value.num_columns)
    return list(shape), _columns_line(columns, shape), columns


def _columns_line(columns: list[tuple[str, str]], shape: tuple[int, int]) -> str:
    rows = "1 row" if shape[0] == 1 else f"{shape[0]} rows"
    return f"{rows}: {_joined((name for name, _ in columns), shape[1], str, '  ').strip()}"


def _label(label: Any) -> str:
    return label[:ITEM_CHARACTERS] if type(label) is str else _item(label)


def _dtype(kind: Any) -> str:
    # numpy has one of each common kind, and takes long to write it.
    known = _DTYPES.get(id(kind))
    if known is not None and known[0] is kind:
        return known[1]
    shown = _dtype_text(kind)
    if len(_DTYPES) < 100 and type(kind).__module__.startswith("numpy"):
        _DTYPES[id(kind)] = (kind, shown)
    return shown


def _dtype_text(kind: Any) -> str:
    if type(kind).__module__.partition(".")[0] in ("numpy", "pandas"):
        return str(kind)[:ITEM_CHARACTERS]
    return type(kind).__name__[:ITEM_CHARACTERS]


_DTYPES: dict[int, tuple[Any, str]] = {}

_PACKAGED: dict[str, Callable[[Any], Described]] = {
    "numpy.ndarray": _array,
    "pandas.DataFrame": _frame,
    "pandas.Series": _series,
    "pandas.Index": _index,
    "pandas.RangeIndex": _index,
    "pandas.DatetimeIndex": _index,
    "polars.DataFrame": _polars_frame,
    "pyarrow.Table": _arrow_table,
}
