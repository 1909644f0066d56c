"""A cell as it came out of an engine, and where two of them differ.

A cell has eight aspects. They overlap on purpose: a figure that is missing is a difference in `types`
and in `order`, and whoever reads the table sees which sort of thing went wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, TypeAlias

from .outputs import Form, contents_of, explain, forms_of
from .volatile import settle

ASPECTS: Final = {
    "status": "succeeded, failed, or not run",
    "error": "the exception's name",
    "stdout": "all text of stdout",
    "stderr": "all text of stderr",
    "plain": "the text/plain of results and displays, in order",
    "types": "of each output that is no stream, its type and its set of mime types, one by one",
    "content": "what the other representations hold, pictures byte by byte",
    "order": "the sequence of all of these, text between two other outputs joined by stream",
}

MISSING: Final = "(nothing)"

# What would not be seen in a line for people, or would do something there.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

# One output: its kind, its settled text.
Item: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """An executed code cell, ready to be compared."""

    number: int
    """Counted from 1 among the notebook's code cells that have code."""
    source: str
    aspects: dict[str, str]
    forms: tuple[Form, ...]
    """Of its outputs, streams left out."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An aspect in which two runs of one cell differ."""

    cell: int
    aspect: str
    left: str
    right: str
    outputs: tuple[str, ...] = ()
    """Where it is about types: each output that differs, in words."""

    def line(self) -> str:
        """For people: the outputs that differ, or the first lines that do."""
        if self.outputs:
            return f"cell {self.cell}, {self.aspect}: {'; '.join(self.outputs)}"
        left, right = _first_difference(self.left, self.right)
        return f"cell {self.cell}, {self.aspect}: {left} ≠ {right}"


def cells_of(notebook: dict[str, Any]) -> list[Cell]:
    """The code cells of an executed notebook that have code."""
    with_code = (
        cell for cell in notebook["cells"] if cell["cell_type"] == "code" and _text(cell["source"]).strip()
    )
    return [_cell(number, cell) for number, cell in enumerate(with_code, 1)]


def differences(left: list[Cell], right: list[Cell]) -> list[Difference]:
    """Everything in which the runs differ. They must be runs of the same notebook."""
    if [cell.source for cell in left] != [cell.source for cell in right]:
        raise ValueError("these are not two runs of the same notebook")
    return [
        Difference(
            one.number,
            aspect,
            one.aspects[aspect],
            other.aspects[aspect],
            tuple(explain(one.forms, other.forms)) if aspect == "types" else (),
        )
        for one, other in zip(left, right, strict=True)
        for aspect in ASPECTS
        if one.aspects[aspect] != other.aspects[aspect]
    ]


def _cell(number: int, cell: dict[str, Any]) -> Cell:
    items = list(_items(cell["outputs"]))
    errors = [output["ename"] for output in cell["outputs"] if output["output_type"] == "error"]
    if errors:
        status = "failed"
    elif cell.get("execution_count") is None:
        status = "not run"
    else:
        status = "succeeded"
    streams = {
        stream: settle("".join(_text(o["text"]) for o in cell["outputs"] if o.get("name") == stream))
        for stream in ("stdout", "stderr")
    }
    forms = forms_of(cell["outputs"])
    aspects = {
        "status": status,
        "error": "\n".join(errors),
        **streams,
        "plain": "\n".join(text for kind, text in items if kind.startswith(("execute_result", "display"))),
        "types": "\n".join(map(str, forms)),
        "content": "\n".join(contents_of(cell["outputs"])),
        "order": "\n".join(f"{kind} {text!r}" for kind, text in items),
    }
    return Cell(number, _text(cell["source"]), aspects, forms)


def _items(outputs: list[dict[str, Any]]) -> Iterator[Item]:
    raw: list[Item] = []
    for output in outputs:
        kind = output["output_type"]
        if kind == "stream":
            raw.append((output["name"], _text(output["text"])))
        elif kind == "error":
            raw.append((kind, output["ename"]))
        else:
            data = output["data"]
            raw.append((f"{kind} {' '.join(sorted(data))}", _text(data.get("text/plain", ""))))
    # Two outputs of one stream with nothing between them are one text.
    for (kind, _), group in groupby(enumerate(raw), key=_joined):
        text = settle("".join(text for _, (_, text) in group))
        if text or kind not in ("stdout", "stderr"):
            yield kind, text


def _joined(numbered: tuple[int, Item]) -> tuple[str, int]:
    number, (kind, _) = numbered
    return (kind, -1) if kind in ("stdout", "stderr") else (kind, number)


def _text(value: str | list[str]) -> str:
    # A notebook's file may hold a text as a list of lines.
    return value if isinstance(value, str) else "".join(value)


def _first_difference(left: str, right: str) -> tuple[str, str]:
    left_lines, right_lines = left.split("\n"), right.split("\n")
    for place in range(max(len(left_lines), len(right_lines))):
        one = left_lines[place] if place < len(left_lines) else None
        other = right_lines[place] if place < len(right_lines) else None
        if one != other:
            return _around(one, other), _around(other, one)
    return MISSING, MISSING


def _around(line: str | None, other: str | None, width: int = 90) -> str:
    """The line, from shortly before where it leaves the other one."""
    if not line:
        return MISSING
    common = 0
    while common < min(len(line), len(other or "")) and line[common] == (other or "")[common]:
        common += 1
    start = max(0, common - 20)
    cut = _CONTROL.sub(lambda match: repr(match[0])[1:-1], line[start : start + width])
    return f"`{'…' if start else ''}{cut}{'…' if start + width < len(line) else ''}`"
