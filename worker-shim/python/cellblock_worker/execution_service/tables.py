"""DataFrames as tables: the true shape, a bounded part of the data, and the HTML that pandas makes of it."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable, Mapping
from typing import Any

from .cells import Plain, key_text, label, text
from .entries import Table
from .packages import comes_from, loaded_class
from .run_warnings import quietly

# Bounds of the data, in rows, columns, cells and characters of text.
ROWS = 1_000
COLUMNS = 200
CELLS = 10_000
CHARACTERS = 1 << 20
# So much of a long Series is made into a frame: more than the data can have.
PART = ROWS + 1
# Bounds of the HTML.
HTML_ROWS = 60
HTML_CELLS = 6_000
HTML_CHARACTERS = 1 << 20
HTML_CLASSES = "table table-striped"
# Up to here the memory that a column's objects take is counted as well.
DEEP_ROWS = 10_000

DISPLAYED = "displayed_result"


def is_frame(value: Any) -> bool:
    """Whether it is a DataFrame. Asks nothing of the value itself."""
    return comes_from(value, "pandas", "DataFrame")


def frames_of(names: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The names that are bound to DataFrames, with these."""
    cls = loaded_class("pandas", "DataFrame")
    if cls is None:
        return []
    return [
        (name, value)
        for name, value in list(names.items())
        if type(name) is str and issubclass(type(value), cls)
    ]


def plain_frame(frame: Any) -> Any:
    """A DataFrame of pandas' own class over the same data: the user's subclass may define anything anew."""
    import pandas

    return frame if type(frame) is pandas.DataFrame else pandas.DataFrame(frame)


def table(frame: Any, name: str) -> Table:
    """The table of a DataFrame. Raises what pandas raises on a damaged one."""
    with quietly():
        plain = plain_frame(frame)
        narrow = plain.iloc[:, :COLUMNS]
        labels = [label(key) for key in narrow.columns.tolist()]
        dtypes = {key_text(key): text(kind, 200) for key, kind in narrow.dtypes.items()}
        values, rows = _data(narrow.iloc[: _rows_of(len(labels))])
        markup = _html(narrow, labels, values)
        return Table(name, plain.shape, labels, values, rows, dtypes, _memory(narrow), markup)


def series_table(series: Any) -> Table:
    """The table of a Series: its index as columns, then its values."""
    import pandas

    name = series.name
    try:
        named = bool(name)
    except Exception:  # pandas.NA is neither true nor false
        named = False
    head = pandas.Series(series).iloc[:PART]
    made = head.to_frame(name=name if named else "Value").reset_index(allow_duplicates=True)
    return _of_part(made, len(series))


def listing_table(values: Any) -> Table:
    """The table of a one-dimensional thing: positions and values."""
    import pandas

    first = values[:PART]
    if isinstance(first, pandas.MultiIndex):
        first = first.to_flat_index()
    head = pandas.Series(first)
    return _of_part(pandas.DataFrame({"index": range(len(head)), "value": head}), len(values))


def _of_part(part: Any, rows: int) -> Table:
    """The table of which `part` holds the first rows."""
    made = table(part, DISPLAYED)
    if rows == len(part):
        return made
    memory = {
        key: size if key == "Index" else size * rows // len(part) for key, size in made.memory_usage.items()
    }
    return dataclasses.replace(made, shape=(rows, made.shape[1]), memory_usage=memory)


# Data.


def _rows_of(columns: int) -> int:
    return min(ROWS, CELLS // max(columns, 1))


def _memory(frame: Any) -> dict[str, int]:
    try:
        usage = frame.memory_usage(deep=len(frame) <= DEEP_ROWS)
    except Exception:
        # An object will not say how large it is.
        usage = frame.memory_usage()
    return {key_text(key): int(size) for key, size in usage.items()}


def _data(head: Any) -> tuple[list[Any], int]:
    """The values by column, and how many rows of them can be afforded."""
    import numpy

    plain = Plain()
    columns: list[Any] = []
    textual: list[list[Any]] = []
    for at in range(head.shape[1]):
        values = head.iloc[:, at]
        # pandas' own numbers may be missing.
        kind = values.dtype.kind if isinstance(values.dtype, numpy.dtype) else "O"
        if kind == "f" and values.dtype.itemsize <= 8:
            columns.append(values.to_numpy("<f8"))
        elif kind in "iub":
            columns.append(values.tolist())
        else:
            textual.append([plain(value) for value in values.tolist()])
            columns.append(textual[-1])
    rows = _affordable(textual, len(head))
    return [column[:rows] for column in columns], rows


def _affordable(columns: list[list[Any]], rows: int) -> int:
    left = CHARACTERS
    for at, row in enumerate(zip(*columns, strict=True)):
        left -= sum(map(_weight, row))
        if left < 0:
            return at
    return rows


def _weight(cell: Any) -> int:
    if isinstance(cell, str):
        return len(cell)
    return len(repr(cell)) if isinstance(cell, (list, dict)) else 8


# HTML.


def _html(frame: Any, labels: list[Any], values: list[Any]) -> str:
    rows = min(HTML_ROWS, HTML_CELLS // max(len(labels), 1))
    try:
        # Where rows are left out, there is one that says so.
        shown = rows if len(frame) <= rows else rows - 1
        made = frame.to_html(classes=HTML_CLASSES, max_rows=shown, max_cols=COLUMNS)
    except Exception:
        # A cell's own text cannot be had.
        made = None
    if isinstance(made, str) and len(made) <= HTML_CHARACTERS:
        return made
    return _plain_html(labels, list(zip(*(column[:rows] for column in values), strict=True)))


def _plain_html(labels: list[Any], rows: list[tuple[Any, ...]]) -> str:
    def line(tag: str, cells: Iterable[Any]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(text(cell, 200))}</{tag}>" for cell in cells) + "</tr>"

    head, body = line("th", labels), "\n".join(line("td", row) for row in rows)
    return (
        f'<table border="1" class="dataframe {HTML_CLASSES}">\n<thead>{head}</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>"
    )
