"""Tables that printed DataFrames have left in a cell's standard output.

What is read is what pandas prints, and nothing else (`printed_frames`): text that merely looks like columns
(classification reports, lists, logs) is no table. When in doubt there is none: a wrong table is worse than
none, as the text itself is there in any case.

Deliberately absent: Series, and tables of other libraries. The index is in the HTML only, as with tables that
were captured. The text comes from a worker: lines and tables are bounded, and no line is looked at more than
a few times.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from .plain import finite
from .printed_frames import Block, is_number, read_block
from .tables import CELLS, COLUMNS, ROWS

TABLES: Final = 100
TRIES: Final = 10_000
"""Lines that could be a header; what comes after so many that are none is not looked at."""
BLOCKS: Final = 200
"""Parts that one frame is folded into; a text with more is meant to keep us busy."""
HTML_ROWS: Final = 60

_SIZE: Final = re.compile(r"\[([0-9]{1,12}) rows x ([0-9]{1,9}) columns\]")
_DOTS: Final = re.compile(r"\.\.\.?")
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_POSITION: Final = re.compile(r"[0-9]{1,9}")
_LETTER: Final = re.compile(r"[^\W\d_]")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?: |\Z)|-?[0-9]{1,6} days")
_MISSING: Final = frozenset(("NaN", "NaT", "None", "<NA>"))
_TRUTH: Final = {"True": True, "False": False}
_YEARS: Final = range(1800, 2200)


def parse(text: str) -> list[dict[str, Any]]:
    """The tables in a text, in its order, as entries of `ExecutionResult.tables`."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    found: list[dict[str, Any]] = []
    at = floor = tries = 0
    while at < len(lines) - 1 and len(found) < TABLES and tries < TRIES:
        # Most lines are passed here: a header is followed by a row of the same length.
        if not lines[at] or len(lines[at]) != len(lines[at + 1]):
            at += 1
            continue
        tries += 1
        blocks, at = _blocks(lines, at, floor)
        frame, end = _frame(blocks, lines, at) if blocks else (None, at)
        if frame is not None:
            found.append(_entry(frame, f"Analysis Result {len(found) + 1}"))
            at = floor = end
    return found


def _blocks(lines: Sequence[str], at: int, floor: int) -> tuple[list[Block], int]:
    """The blocks that one frame was folded into; none if they do not belong together."""
    found: list[Block] = []
    is_continued = True
    while is_continued and at < len(lines):
        block, at = read_block(lines, at, floor)
        if block is None or block.has_margin != (block.is_continued or bool(found)):
            return [], at
        if found and not block.continues(found[0]):
            return [], at
        if len(found) == BLOCKS:
            return [], len(lines)
        found.append(block)
        if is_continued := block.is_continued:
            if at >= len(lines) or lines[at].strip():
                return [], at
            at += 1
            floor = at
    return ([] if is_continued else found), at


@dataclass(frozen=True, slots=True)
class _Frame:
    """What was printed of a frame, and how large it is."""

    names: list[str]
    labels: list[str] | None
    rows: list[list[str]]
    shape: tuple[int, int]


def _frame(blocks: list[Block], lines: Sequence[str], at: int) -> tuple[_Frame | None, int]:
    """The frame that blocks make, with its size if that is printed below; the line to go on with."""
    names = [name for block in blocks for name in block.names]
    labels = blocks[0].labels
    rows = [[cell for row in parts for cell in row] for parts in zip(*(b.rows for b in blocks), strict=True)]
    size = None
    if at + 1 < len(lines) and not lines[at].strip() and (size := _SIZE.fullmatch(lines[at + 1].rstrip())):
        at += 2
    columns = [
        number
        for number, name in enumerate(names)
        if not (name == "..." and all(_DOTS.fullmatch(row[number]) for row in rows))
    ]
    kept = [number for number, row in enumerate(rows) if not _is_gap(labels, number, row)]
    shown = blocks[0].rows_in_all - len(rows) + len(kept), len(columns)
    whole = shown if size is None else (int(size[1]), int(size[2]))
    are_cut = len(kept) < len(rows), len(columns) < len(names)
    # What is left out is told below the table, or it is not pandas that printed it.
    if not all(shown) or not all(
        (total > part if is_cut else total == part)
        for total, part, is_cut in zip(whole, shown, are_cut, strict=True)
    ):
        return None, at
    frame = _Frame(
        [names[number] for number in columns],
        None if labels is None else [labels[number] for number in kept],
        [[rows[number][column] for column in columns] for number in kept],
        whole,
    )
    is_certain = bool(blocks[0].index_name)
    return (frame if is_certain or _is_believable(frame, has_gap=are_cut[1]) else None), at


def _is_gap(labels: list[str] | None, number: int, row: list[str]) -> bool:
    """Whether it is the row of dots that stands for the rows left out."""
    return labels is not None and all(_DOTS.fullmatch(text) for text in (labels[number], *row))


def _is_believable(frame: _Frame, *, has_gap: bool) -> bool:
    """Whether the layout is not that of other text by chance."""
    names, labels, rows = frame.names, frame.labels, frame.rows
    numbers = [name for name in names if is_number(name)]
    if len(numbers) < len(names) and not any(_LETTER.search(name) for name in names):
        return False
    if numbers and not _are_positions(numbers, has_gap=has_gap):
        # The figures of a text, of which one line is taken for the header.
        return False
    if labels is None:
        return True
    has_figures = any(all(map(_is_figure, column)) for column in zip(*rows, strict=True))
    if all(_WHOLE.fullmatch(label) or _DATE.match(label) for label in labels):
        return has_figures or len(rows) > 1 or labels == ["0"]
    return has_figures and (len(rows) > 1 or (len(names) > 1 and all(map(is_number, rows[0]))))


def _is_figure(cell: str) -> bool:
    return is_number(cell) or cell in _TRUTH or _DATE.match(cell) is not None


def _are_positions(numbers: list[str], *, has_gap: bool) -> bool:
    """Whether columns are named as those without names are (0, 1, …), or by years."""
    if not all(_POSITION.fullmatch(number) for number in numbers):
        return False
    values = list(map(int, numbers))
    if all(value in _YEARS for value in values):
        return True
    jumps = sum(after != before + 1 for before, after in pairwise(values))
    return values[0] == 0 and jumps <= has_gap and values == sorted(values)


# Entries.


def _entry(frame: _Frame, name: str) -> dict[str, Any]:
    names = frame.names[:COLUMNS]
    kept = min(len(frame.rows), ROWS, CELLS // len(names))
    rows = [row[:COLUMNS] for row in frame.rows[:kept]]
    columns = [_column([row[number] for row in rows]) for number in range(len(names))]
    entry: dict[str, Any] = {
        "name": name,
        "shape": list(frame.shape),
        "columns": names,
        "data": [
            dict(zip(names, cells, strict=True)) for cells in zip(*(c.cells for c in columns), strict=True)
        ],
        "html": _html(names, frame.labels, rows[:HTML_ROWS]),
        "info": {
            "dtypes": {name: column.dtype for name, column in zip(names, columns, strict=True)},
            "memory_usage": {},
        },
        "source": "stdout",
    }
    if (kept, len(names)) != frame.shape:
        entry |= {"truncated": True, "total_rows": frame.shape[0], "total_columns": frame.shape[1]}
    return entry


@dataclass(frozen=True, slots=True)
class _Column:
    cells: list[Any]
    dtype: str


def _column(texts: list[str]) -> _Column:
    """The values of a column: numbers if all of them are."""
    present = [text for text in texts if text not in _MISSING]
    if present and all(text in _TRUTH for text in present):
        return _Column(
            [_TRUTH.get(text) for text in texts], "bool" if len(present) == len(texts) else "object"
        )
    if present and all(_WHOLE.fullmatch(text) for text in present):
        cells: list[Any] = [None if text in _MISSING else int(text) for text in texts]
        return _Column(cells, "int64" if len(present) == len(texts) else "Int64")
    if present and all(is_number(text) for text in present):
        return _Column([None if text in _MISSING else finite(float(text)) for text in texts], "float64")
    return _Column([None if text in _MISSING else text for text in texts], "object")


def _html(names: list[str], labels: list[str] | None, rows: list[list[str]]) -> str:
    """As pandas' `to_html`, with the same classes as the tables that were captured."""
    heads = names if labels is None else ["", *names]
    lines = [
        '<table border="1" class="dataframe table table-striped">',
        "  <thead>",
        '    <tr style="text-align: right;">',
        *(f"      <th>{html.escape(name)}</th>" for name in heads),
        "    </tr>",
        "  </thead>",
        "  <tbody>",
    ]
    for number, row in enumerate(rows):
        lines.append("    <tr>")
        if labels is not None:
            lines.append(f"      <th>{html.escape(labels[number])}</th>")
        lines += (f"      <td>{html.escape(cell)}</td>" for cell in row)
        lines.append("    </tr>")
    return "\n".join([*lines, "  </tbody>", "</table>"])
