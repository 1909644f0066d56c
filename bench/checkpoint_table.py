"""The table of checkpoints: a line for each state and system, a column for each thing that was measured."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from bench.figures import aligned
from bench.rows import Row, number


class Column(Enum):
    """What is measured of a state: a row's name after the state's, its unit, and the column's heading."""

    PAUSE = ("pause seen by the user", "ms", "pause")
    PAUSE_CHANGE = ("pause, one change", "ms", "1 change")
    BESIDE = ("next cell that rewrites all, × undisturbed", "×", "next ×")
    CPU = ("processor time of the first save", "s", "CPU s")
    BYTES = ("written, first save", "MB", "MB first")
    BYTES_SAME = ("written, nothing changed", "MB", "same")
    BYTES_CHANGE = ("written, one change", "MB", "1 change")
    RESTORE = ("restore → first use", "ms", "restore ms")
    RESTORE_WHOLE = ("new process, restore → first use", "ms", "with start")
    RIGHT = ("variables right", "", "right")
    LEFT_OUT = ("variables left out, and told", "", "left out")
    WRONG = ("variables wrong", "", "wrong")

    def __init__(self, title: str, unit: str, heading: str) -> None:
        self.title = title
        self.unit = unit
        self.heading = heading


_PART: Final = "checkpoints"


def new_row(state: str, column: Column) -> Row:
    """Without values."""
    return Row(_PART, f"{state}: {column.title}", column.unit, cell=(state, column.name))


def table(rows: Iterable[Row]) -> str:
    """For people: medians; behind a pause's the worst one. Rows of other things are left out."""
    cells = {row.cell: row for row in rows if row.cell}
    if not cells:
        return ""
    lines: list[tuple[str, ...]] = [("saved", *(column.heading for column in Column), "system")]
    for state in dict.fromkeys(state for state, _ in cells):
        mine = [cells.get((state, column.name)) for column in Column]
        engines = dict.fromkeys(engine for row in mine if row for engine in row.engines)
        for place, engine in enumerate(engines):
            figures = (_figure(row, column, engine) for row, column in zip(mine, Column, strict=True))
            lines.append((state if place == 0 else "", *figures, engine))
    return aligned(lines, words=(0, len(Column) + 1))


def _figure(row: Row | None, column: Column, engine: str) -> str:
    if row is None or engine not in row.engines:
        return "–"
    values = row.engines[engine]
    if column in (Column.RIGHT, Column.LEFT_OUT, Column.WRONG):
        return f"{values.worst if column is not Column.RIGHT else min(values.every):.0f}"
    if column in (Column.PAUSE, Column.PAUSE_CHANGE) and len(values.every) > 1:
        return f"{number(values.p50)}…{number(values.worst)}"
    return _small(values.p50)


def _small(value: float) -> str:
    return f"{value:.3f}" if 0 < value < 0.1 else number(value)
