"""Exceptions as `ErrorReport`: what IPython shows, and the same as data.

An exception's class, its attributes, the file names of its code are the user's. `exact` and `own` look at
them without running his code; only `text_of` runs it.
"""

from __future__ import annotations

import json
import linecache
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from . import names

# Budgets in characters; an error's meta must stay well below the 128 KiB of a message.
NAME = 200
VALUE = 16_000
TRACEBACK = 48_000
CODE = 400
FRAMES = 40
CAUSES = 8
META_BYTES = 96 << 10
# A block's quotes and comma.
BLOCK = 4

# Where the worker's own code lies; compiled code names its sources.
OURS = f"{Path(__file__).parent}/"
# The file names of cells; see `Compiler.cache` in shell.py.
CellOf = Callable[[str], "tuple[str, int] | None"]


class Place(NamedTuple):
    """A step of a stack. `code` where it is not the line of the file."""

    file: str
    line: int
    function: str
    code: str | None


class Cause(NamedTuple):
    """What an exception names as its reason."""

    name: str
    value: str
    explicit: bool
    places: list[Place]


def text_of(error: BaseException | None) -> str:
    """`str(error)`, whatever that raises; but a KeyboardInterrupt may be a real one."""
    try:
        return clipped(exact(str(error)), VALUE) + _why_missing(error)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        return f"<str() of this {name_of(type(error))} raised {name_of(type(failure))}>"


def last_text_of(error: BaseException) -> str:
    """The same where nothing may be raised any more."""
    try:
        return text_of(error)
    except KeyboardInterrupt:
        return said(error)


def said(error: Any) -> str:
    """What it was made with, if that is a text; without running the user's code."""
    arguments: tuple[Any, ...] = own(error, "args") if issubclass(type(error), BaseException) else ()
    return clipped(arguments[0], VALUE) if arguments and type(arguments[0]) is str else ""


def name_of(kind: type) -> str:
    """`kind.__name__`, whatever its metaclass says."""
    return exact(type.__dict__["__name__"].__get__(kind))


def exact(text: str) -> str:
    """A `str` and nothing that is derived from it."""
    return text if type(text) is str else str.__str__(text)


def own(error: BaseException, name: str, kind: type = BaseException) -> Any:
    """An attribute that every exception has, whatever its class says about it."""
    return getattr(kind, name).__get__(error)


def _why_missing(error: BaseException | None) -> str:
    """Of a name of the user's that a restore has left unbound."""
    name = error.name if type(error) is NameError else None
    reason = names.missing.get(name) if type(name) is str else None
    if reason is None or error is None:
        return ""
    raised_in = ""
    for step in steps_of(own(error, "__traceback__")):
        raised_in = step.tb_frame.f_globals.get("__name__", "")
    # Another module may lack a name of its own that is called the same.
    return f"; it was not restored: {clipped(reason, CODE)}" if raised_in == "__main__" else ""


def report(name: str, error: BaseException | None, blocks: list[str], cell_of: CellOf) -> dict[str, Any]:
    """The wire form of an exception. `blocks` is its traceback as it is shown."""
    why = _why_missing(error)
    if why:
        # The last line of what is shown is the exception's text.
        blocks = [*blocks[:-1], blocks[-1].rstrip("\n") + why] if blocks else blocks
    return _fitted(name, text_of(error), blocks, _places(error, cell_of), _causes(error, cell_of), cell_of)


def bare(kind: type, error: BaseException | None, cell_of: CellOf) -> dict[str, Any]:
    """The same from what is there without running the user's code: that has failed, or was interrupted."""
    name, value, places = name_of(kind), said(error), _places(error, cell_of)
    blocks = [
        f'  File "{frame["file"]}", line {frame["line"]}, in {frame["function"]}\n    {frame["code"] or ""}'
        for frame in _frames(places, FRAMES, 0, cell_of)
    ]
    blocks = [*(["Traceback (most recent call last):"] if blocks else []), *blocks]
    return _fitted(name, value, [*blocks, f"{name}: {value}" if value else name], places, [], cell_of)


def _fitted(
    name: str, value: str, blocks: list[str], places: list[Place], causes: list[Cause], cell_of: CellOf
) -> dict[str, Any]:
    """All of it, or halves of it until it fits into a message."""
    halvings = 0
    while True:
        wire = {
            "name": clipped(name, NAME),
            "value": clipped(value, VALUE >> halvings),
            "traceback": _clipped_blocks(blocks, TRACEBACK >> halvings),
            "frames": _frames(places, FRAMES, halvings, cell_of),
            "causes": [
                {
                    "name": clipped(cause.name, NAME),
                    "value": clipped(cause.value, (VALUE // CAUSES) >> halvings),
                    "explicit": cause.explicit,
                    "frames": _frames(cause.places, FRAMES // 4, halvings, cell_of),
                }
                for cause in causes[: max(CAUSES >> halvings, 1)]
            ],
        }
        # Escaped control characters are six bytes each: measure what will really be sent.
        if len(json.dumps(wire, ensure_ascii=False).encode("utf-8", "replace")) <= META_BYTES:
            return wire
        halvings += 1


def _places(error: BaseException | None, cell_of: CellOf) -> list[Place]:
    """The stack from the cell inwards; a syntax error's place is its last."""
    if not issubclass(type(error), BaseException) or error is None:
        return []
    found: list[Place] = []
    in_cell = False
    # Not extract_tb, which formats and reads every line of a deep recursion.
    for step in steps_of(own(error, "__traceback__")):
        code = step.tb_frame.f_code
        file = exact(code.co_filename)
        in_cell = in_cell or cell_of(file) is not None
        # What of ours stands between a cell and what it called (`input`, a lazy module) is no step.
        if in_cell and not file.startswith(OURS):
            found.append(Place(file, line_of(step), exact(code.co_name), None))
    if issubclass(type(error), SyntaxError):
        file, line, text = (own(error, name, SyntaxError) for name in ("filename", "lineno", "text"))
        if type(file) is str and file:
            shown = text if type(text) is str else None
            found.append(Place(file, line if type(line) is int else 0, "<module>", shown))
    return found


def _causes(error: BaseException | None, cell_of: CellOf) -> list[Cause]:
    """`__cause__` and `__context__`, nearest first."""
    found: list[Cause] = []
    seen = {id(error)}
    while error is not None and len(found) < CAUSES:
        cause = own(error, "__cause__")
        explicit = cause is not None
        hidden = explicit or own(error, "__suppress_context__")
        error = cause if hidden else own(error, "__context__")
        if error is None or id(error) in seen:
            break
        seen.add(id(error))
        # Where it was raised says more than how the cell came there.
        places = _places(error, cell_of)[-FRAMES // 4 :]
        found.append(Cause(name_of(type(error)), text_of(error), explicit, places))
    return found


def _frames(places: list[Place], most: int, halvings: int, cell_of: CellOf) -> list[dict[str, Any]]:
    """`ErrorFrame`s: all, or the first and the last with a mark between them."""
    most = max(most >> halvings, 2)
    left_out = len(places) - most
    if left_out <= 0:
        return [_frame(place, halvings, cell_of) for place in places]
    head, tail = places[: most // 2], places[-(most // 2) :]
    mark = {
        "execution": None,
        "file": "…",
        "line": 0,
        "function": f"{left_out} frames left out",
        "code": None,
    }
    return [
        *(_frame(place, halvings, cell_of) for place in head),
        mark,
        *(_frame(place, halvings, cell_of) for place in tail),
    ]


def _frame(place: Place, halvings: int, cell_of: CellOf) -> dict[str, Any]:
    cell = cell_of(place.file)
    # The user's to say.
    line = place.line if 0 <= place.line < 1 << 31 else 0
    code = _read(place.file, line) if place.code is None else place.code
    return {
        "execution": cell[0] if cell else None,
        "file": clipped(place.file, NAME * 2 >> halvings),
        # IPython drops a cell's leading blank lines; people count them.
        "line": line + (cell[1] if cell else 0),
        "function": clipped(place.function, NAME >> halvings),
        "code": clipped(code.strip(), CODE >> halvings) or None,
    }


def _read(file: str, line: int) -> str:
    try:
        return exact(linecache.getline(file, line))
    except Exception:
        # A name that no file can have; a loader of the user's.
        return ""


def steps_of(tb: TracebackType | None) -> Iterator[TracebackType]:
    """A traceback, one by one."""
    while tb is not None:
        yield tb
        tb = tb.tb_next


def line_of(step: TracebackType) -> int:
    """Its own, else that of the nearest instruction before it that has one."""
    line: int | None = step.tb_lineno
    if line is not None:
        return line
    code = step.tb_frame.f_code
    found = code.co_firstlineno
    for start, _, line in code.co_lines():
        if start > step.tb_lasti:
            break
        found = found if line is None else line
    return found


def clipped(text: str, limit: int) -> str:
    """Head and tail of a long text, with a mark between them that says what is missing."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}… [{len(text) - 2 * half} characters left out] …{text[len(text) - half :]}"


def _clipped_blocks(blocks: list[str], budget: int) -> list[str]:
    if sum(map(len, blocks)) + BLOCK * len(blocks) <= budget:
        return blocks
    # The end names the exception, the beginning the cell: keep both, whole blocks where they fit.
    head: list[str] = []
    tail: list[str] = []
    left = budget
    rest = deque(blocks)
    while rest and left > 0:
        kept = tail if len(tail) <= len(head) else head
        block = clipped(rest.pop() if kept is tail else rest.popleft(), max(left // 2, 50))
        kept.append(block)
        left -= len(block) + BLOCK
    middle = [f"… [{len(rest)} blocks of the traceback left out] …"] if rest else []
    return [*head, *middle, *reversed(tail)]
