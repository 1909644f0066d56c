"""Values in and out of the namespace without code: as JSON, or as an Arrow table.

Nothing is pickled. What has no exact form on the other side does not cross: there is no conversion that
quietly loses something, but that a tuple becomes a list.
"""

from __future__ import annotations

import json
import keyword
import math
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from . import bundle, profile
from .errors import text_of
from .names import kind_of
from .plugins import Refused

if TYPE_CHECKING:
    from .shell import Shell

MIME = {"json": "application/json", "arrow": "application/vnd.apache.arrow.stream"}

# Deeper than anybody's data, and well within what the json module can do.
DEPTH = 200
PATH_CHARACTERS = 300


def put(shell: Shell, wanted: dict[str, str], payload: bytes) -> None:
    """Binds a name to what the payload says."""
    # As Python reads it in code.
    name = unicodedata.normalize("NFKC", wanted["name"])
    if not name.isidentifier() or keyword.iskeyword(name) or name == "__debug__":
        raise Refused("BadName", f"{name[:80]!r} is no name that Python can bind")
    try:
        shell.user_ns[name] = _READERS[wanted["format"]](payload)
    except (Refused, MemoryError):
        raise
    except Exception as error:
        raise Refused("BadValue", f"the value cannot be read: {_said(error)}") from None


def get(shell: Shell, wanted: dict[str, str]) -> None:
    """Displays the value of a name, in the one form that was asked for."""
    name = unicodedata.normalize("NFKC", wanted["name"])
    if name not in shell.user_ns:
        raise Refused("UnknownName", f"there is no variable {name[:80]!r}")
    try:
        content = _WRITERS[wanted["format"]](name, shell.user_ns[name])
    except (Refused, MemoryError):
        raise
    except Exception as error:
        raise _cannot_cross(name, f"cannot be written: {_said(error)}") from None
    _check_size(name, len(content))
    wire = {"parts": [{"mime": MIME[wanted["format"]], "span": {"offset": 0, "length": len(content)}}]}
    display = {"bundle": {**wire, "metadata": None}, "display_id": None, "update": False}
    shell.outputs.send({"display": display}, content)


def _check_size(name: str, size: int) -> None:
    if size > bundle.BUNDLE_BYTES:
        raise Refused(
            "TooLarge", f"`{name}` takes {size} bytes, {bundle.BUNDLE_BYTES} are the most: take it in parts"
        )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {text_of(error)}"


# JSON.


def _read_json(payload: bytes) -> Any:
    try:
        return json.loads(
            payload, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_distinct
        )
    except (ValueError, RecursionError) as error:
        raise Refused("BadValue", f"the value is not JSON: {error}") from None


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits[:40]} is beyond what a float holds")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("an object has a key twice")
    return value


def _write_json(name: str, value: Any) -> bytes:
    plain = _plain(value, name, [])
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any, path: str, above: list[int]) -> Any:
    """The value in JSON's own types, or the refusal that says which part of it has none."""
    cls = type(value)
    if value is None or cls is bool or cls is int:
        return value
    if cls is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _cannot_cross(path, "is a text with half of a surrogate pair") from None
        return value
    if cls is float:
        if not math.isfinite(value):
            raise _cannot_cross(path, f"is {value}, which JSON has no word for")
        return value
    if cls is list or cls is tuple or cls is dict:
        if id(value) in above:
            raise _cannot_cross(path, "contains itself")
        if len(above) >= DEPTH:
            raise _cannot_cross(path[:PATH_CHARACTERS], f"lies deeper than {DEPTH} levels")
        above.append(id(value))
        try:
            if cls is dict:
                return {
                    _key(key, path): _plain(item, f"{path}[{key!r}]", above) for key, item in value.items()
                }
            return [_plain(item, f"{path}[{at}]", above) for at, item in enumerate(value)]
        finally:
            above.pop()
    return _plain(_native(value, path), path, above)


def _key(key: Any, path: str) -> str:
    if type(key) is not str:
        raise _cannot_cross(path, f"has the key {str(key)[:40]}: JSON has texts alone for keys")
    return str(_plain(key, f"a key of {path}", []))


def _native(value: Any, path: str) -> Any:
    """numpy's numbers and arrays of numbers as Python's own."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in "biuf":
        plain = value.item()
        # A long double stays what it is.
        if not isinstance(plain, numpy.generic):
            return plain
    if (
        numpy is not None
        and type(value) is numpy.ndarray
        and value.dtype.char not in "gG"
        and value.dtype.kind in "biufU"
    ):
        return value.tolist()
    kind = kind_of(value)
    hint = "; ask for it as arrow" if _is_table(value) else ""
    raise _cannot_cross(path, f"is of type {kind}, which JSON has no form for{hint}")


# Arrow.


def _read_arrow(payload: bytes) -> Any:
    arrow = _pyarrow()
    try:
        with arrow.ipc.open_stream(payload) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise Refused("BadValue", f"the value is not an Arrow IPC stream: {error}") from None
    try:
        import pandas
    except ImportError:
        return table
    whole = {arrow.from_numpy_dtype(dtype): kind for dtype, kind in _nullable(pandas).items()}
    # Whole numbers beside a null would become floats, which hold the smaller ones alone.
    gaps = any(arrow.types.is_integer(column.type) and column.null_count for column in table.columns)
    return table.to_pandas(types_mapper=whole.get if gaps else None, integer_object_nulls=True)


def _nullable(pandas: Any) -> dict[str, Any]:
    names = [f"{sign}nt{bits}" for sign in ("I", "UI") for bits in (8, 16, 32, 64)]
    return {name.lower(): getattr(pandas, f"{name}Dtype")() for name in names}


def _write_arrow(name: str, value: Any) -> bytes:
    arrow = _pyarrow()
    try:
        table = _table(arrow, name, value)
        _check_size(name, table.nbytes)
        sink = arrow.BufferOutputStream()
        with arrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise _cannot_cross(name, f"has no exact form in Arrow: {error}") from None
    return bytes(sink.getvalue())


def _table(arrow: Any, name: str, value: Any) -> Any:
    pandas = sys.modules.get("pandas")
    if isinstance(value, arrow.Table):
        return value
    if pandas is not None and isinstance(value, pandas.Series):
        value = value.to_frame()
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return arrow.Table.from_pandas(value)
    if isinstance(value, arrow.RecordBatch):
        return arrow.Table.from_batches([value])
    if isinstance(value, arrow.RecordBatchReader):
        raise _cannot_cross(name, "is a stream, which can be read only once: make a table of it")
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(value, polars.DataFrame) and polars.Object in value.schema.values():
        raise _cannot_cross(name, "has a column of Python objects, which have no form in Arrow")
    if hasattr(value, "__arrow_c_stream__"):
        return arrow.table(value)
    raise _cannot_cross(name, f"is of type {kind_of(value)}: only tables cross as arrow; ask for it as json")


def _is_table(value: Any) -> bool:
    return kind_of(value) in ("pandas.DataFrame", "pandas.Series", "polars.DataFrame", "pyarrow.Table")


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise Refused("MissingPackage", profile.cure("pyarrow")) from None
    return pyarrow


def _cannot_cross(path: str, why: str) -> Refused:
    shown = path if len(path) <= PATH_CHARACTERS else f"{path[:PATH_CHARACTERS]}…"
    return Refused("CannotCross", f"`{shown}` {why}")


_READERS = {"json": _read_json, "arrow": _read_arrow}
_WRITERS = {"json": _write_json, "arrow": _write_arrow}
