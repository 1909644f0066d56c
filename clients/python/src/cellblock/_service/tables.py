"""Tables and other displays of the capture plug-in, as the entries of `ExecutionResult.tables`."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from typing import Any, Final

from .plain import Malformed, finite

ROWS: Final = 1_000
COLUMNS: Final = 200
CELLS: Final = 10_000
"""What the plug-in keeps of a table at most; more is nobody's honest table."""
_DOUBLE_BYTES: Final = 8


def table_entry(value: Any, floats: bytes, html: str) -> dict[str, Any]:
    """A table: its rows as dicts by column; of those that were cut, what the whole has.

    `floats` are the columns that stand as null among its values.
    """
    source = _one_of(value, "source", ("display", "variable"))
    rows_in_all, columns_in_all = _shape(value)
    columns = [_key(column) for column in _list(value, "columns")]
    rows = _field(value, "rows")
    if type(rows) is not int or not 0 <= rows <= ROWS:
        raise Malformed(f"its `rows` is no number up to {ROWS}")
    if len(columns) > COLUMNS or len(columns) * rows > CELLS:
        raise Malformed(f"it has {rows} rows of {len(columns)} columns, which is more than is kept of one")
    values = _values(_list(value, "values"), rows, floats)
    if len(values) != len(columns):
        raise Malformed("its values do not have its columns")
    records = zip(*values, strict=True) if values else itertools.repeat((), rows)
    entry: dict[str, Any] = {
        "name": _text(value, "name"),
        "shape": [rows_in_all, columns_in_all],
        "columns": columns,
        "data": [dict(zip(columns, record, strict=True)) for record in records],
        "html": html,
        "info": _info(value),
        "source": source,
    }
    if source == "display":
        entry |= {"label": _optional_text(value, "label"), "type": "table"}
    if value.get("truncated") is True:
        entry |= {"truncated": True, "total_rows": rows_in_all, "total_columns": columns_in_all}
    return entry


def display_entry(value: Any) -> dict[str, Any]:
    """Something displayed that is neither table nor figure."""
    return {
        "type": _one_of(value, "type", ("html", "json", "text", "model")),
        "label": _optional_text(value, "label"),
        "content": _field(value, "content"),
        "source": "display",
    }


def library_entry(kind: str, content: Any) -> dict[str, Any]:
    """The same for what a library displayed through IPython, which has no labels."""
    return {"type": kind, "label": None, "content": content, "source": "display"}


def _shape(value: Any) -> tuple[int, int]:
    shape = _list(value, "shape")
    if len(shape) != 2 or not all(type(size) is int and size >= 0 for size in shape):
        raise Malformed("its shape is not two sizes")
    return shape[0], shape[1]


def _values(columns: list[Any], rows: int, floats: bytes) -> list[Sequence[Any]]:
    """The values of each column."""
    if len(floats) != columns.count(None) * rows * _DOUBLE_BYTES:
        raise Malformed("its floats do not fill its columns")
    found: list[Sequence[Any]] = []
    offset = 0
    for column in columns:
        if column is None:
            found.append(_doubles(struct.unpack_from(f"<{rows}d", floats, offset)))
            offset += rows * _DOUBLE_BYTES
        elif type(column) is list and len(column) == rows:
            found.append(column)
        else:
            raise Malformed("the values of a column are not as many as its rows")
    return found


def _doubles(values: tuple[float, ...]) -> Sequence[Any]:
    # What is not finite makes the sum so.
    return values if math.isfinite(sum(values)) else list(map(finite, values))


def _key(column: Any) -> Any:
    if isinstance(column, (list, dict)):
        raise Malformed("the name of a column is no scalar")
    return column


def _info(value: Any) -> dict[str, dict[str, Any]]:
    info = _field(value, "info")
    dtypes, memory = _field(info, "dtypes"), _field(info, "memory_usage")
    if type(dtypes) is not dict or not all(type(item) is str for item in dtypes.values()):
        raise Malformed("its dtypes are not texts by column")
    if type(memory) is not dict or not all(type(item) is int for item in memory.values()):
        raise Malformed("its memory_usage is not numbers by column")
    return {"dtypes": dtypes, "memory_usage": memory}


def _field(value: Any, name: str) -> Any:
    if type(value) is not dict or name not in value:
        raise Malformed(f"it lacks `{name}`")
    return value[name]


def _list(value: Any, name: str) -> list[Any]:
    found = _field(value, name)
    if type(found) is not list:
        raise Malformed(f"its `{name}` is no list")
    return found


def _text(value: Any, name: str) -> str:
    found = _field(value, name)
    if type(found) is not str:
        raise Malformed(f"its `{name}` is no text")
    return found


def _optional_text(value: Any, name: str) -> str | None:
    return None if _field(value, name) is None else _text(value, name)


def _one_of(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    if (found := _text(value, name)) not in allowed:
        raise Malformed(f"its `{name}` is none of {', '.join(allowed)}")
    return found
