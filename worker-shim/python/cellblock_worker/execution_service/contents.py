"""What one variable holds, as far as a caller wants to look into it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from .cells import Plain, items_of, key_text, label, length_of, text
from .packages import class_name, comes_from, loaded_class
from .tables import CELLS, COLUMNS, is_frame, plain_frame
from .variables import columns_of, dtypes_of

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell

ROWS = 100
VALUES = 1_000
ITEMS = 100
CHARACTERS = 1_000


def content(shell: Shell, name: str) -> dict[str, Any]:
    """The variable's kind, its beginning, and how much there is."""
    if name not in shell.user_ns:
        return {"error": f"Variable '{name}' not found"}
    value = shell.user_ns[name]
    try:
        return _content(value)
    except Exception as failure:
        return {"error": text(failure, CHARACTERS) or type(failure).__name__}


def _content(value: Any) -> dict[str, Any]:
    kind = class_name(type(value))
    if is_frame(value):
        return _frame(value)
    if comes_from(value, "pandas", "Series"):
        return _series(loaded_class("pandas", "Series")(value))
    if comes_from(value, "pandas", "Index"):
        return _array(value.to_numpy(), kind)
    if comes_from(value, "numpy", "ndarray"):
        return _array(value.view(loaded_class("numpy", "ndarray")), kind)
    if issubclass(type(value), (list, tuple)):
        first = list(itertools.islice(items_of(value), ITEMS))
        return _beginning(kind, Plain()(first), len(first), length_of(value))
    if issubclass(type(value), dict):
        plain = Plain()
        items = itertools.islice(dict.items(value), ITEMS)
        preview = {key_text(key): plain(item) for key, item in items}
        return _beginning("dict", preview, min(ITEMS, length_of(value)), length_of(value))
    if issubclass(type(value), str):
        first_characters = str.__getitem__(value, slice(CHARACTERS))
        return _beginning("str", first_characters, len(first_characters), str.__len__(value))
    return {"type": kind, "value": text(value)}


def _beginning(kind: str, preview: Any, size: int, total: int) -> dict[str, Any]:
    return {"type": kind, "preview": preview, "preview_size": size, "total_size": total}


def _frame(frame: Any) -> dict[str, Any]:
    whole = plain_frame(frame)
    rows, columns = whole.shape
    shown = min(ROWS, rows, max(CELLS // max(min(columns, COLUMNS), 1), 1))
    head = whole.iloc[:shown, :COLUMNS]
    plain = Plain()
    keys = [key_text(key) for key in head.columns.tolist()]
    values = [[plain(cell) for cell in head.iloc[:, at].tolist()] for at in range(len(keys))]
    return {
        "type": "DataFrame",
        "shape": [rows, columns],
        "columns": columns_of(whole),
        "dtypes": dtypes_of(whole),
        "preview": [dict(zip(keys, row, strict=True)) for row in zip(*values, strict=True)],
        "preview_rows": shown,
        "total_rows": rows,
    }


def _series(series: Any) -> dict[str, Any]:
    preview = _plain_list(series.iloc[:VALUES].tolist())
    return {
        "type": "Series",
        "shape": [len(series)],
        "dtype": str(series.dtype),
        "name": label(series.name),
        "preview": preview,
        "preview_size": len(preview),
        "total_size": len(series),
    }


def _array(array: Any, kind: str) -> dict[str, Any]:
    # `flat`, not `flatten`: no copy of the whole for its beginning.
    preview = _plain_list(array.flat[:VALUES].tolist())
    return {
        "type": kind,
        "shape": list(array.shape),
        "dtype": str(array.dtype),
        "preview": preview,
        "preview_size": len(preview),
        "total_size": int(array.size),
    }


def _plain_list(values: list[Any]) -> list[Any]:
    plain = Plain()
    return [plain(value) for value in values]
