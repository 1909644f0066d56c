"""Values in and out of the namespace without code: as JSON, or as an Arrow table.

Nothing is pickled. What has no exact form on the other side does not cross: there is no conversion that
quietly loses something, but that a tuple becomes a list.
"""

from __future__ import annotations

import json
import keyword
import math
import sys
from typing import TYPE_CHECKING, Any

from . import bundle, profile
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
    name = wanted["name"]
    if not name.isidentifier() or keyword.iskeyword(name):
        raise Refused("BadName", f"{name[:80]!r} is no name that Python can bind")
    shell.user_ns[name] = _READERS[wanted["format"]](payload)


def get(shell: Shell, wanted: dict[str, str]) -> None:
    """Displays the value of a name, in the one form that was asked for."""
    name = wanted["name"]
    if name not in shell.user_ns:
        raise Refused("UnknownName", f"there is no variable {name[:80]!r}")
    content = _WRITERS[wanted["format"]](name, shell.user_ns[name])
    if len(content) > bundle.BUNDLE_BYTES:
        raise Refused(
            "TooLarge",
            f"`{name}` takes {len(content)} bytes as {wanted['format']}, {bundle.BUNDLE_BYTES} are the most: "
            "take it in parts",
        )
    wire = {"parts": [{"mime": MIME[wanted["format"]], "span": {"offset": 0, "length": len(content)}}]}
    display = {"bundle": {**wire, "metadata": None}, "display_id": None, "update": False}
    shell.outputs.send({"display": display}, content)


# JSON.


def _read_json(payload: bytes) -> Any:
    try:
        return json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refused("BadValue", f"the value is not JSON: {error}") from None


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


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
        return value.item()
    if numpy is not None and type(value) is numpy.ndarray and value.dtype.kind in "biufU":
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
        import pandas  # noqa: F401
    except ImportError:
        return table
    return table.to_pandas()


def _write_arrow(name: str, value: Any) -> bytes:
    arrow = _pyarrow()
    try:
        table = _table(arrow, name, value)
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
