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
from typing import Any

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
    """The wire form of an exception. `blocks` is IPython's traceback."""
    why = _why_missing(error)
    if why:
        # The last line of what IPython shows is the exception's text.
        blocks = [*blocks[:-1], blocks[-1].rstrip("\n") + why] if blocks else blocks
    return _fitted(name, text_of(error), blocks, frames(error, cell_of), causes(error, cell_of))


def bare(kind: type, error: BaseException | None, cell_of: CellOf) -> dict[str, Any]:
    """The same from what is there without running the user's code: that has failed, or was interrupted."""
    name, value, found = name_of(kind), said(error), frames(error, cell_of)
    blocks = [
        f'  File "{frame["file"]}", line {frame["line"]}, in {frame["function"]}\n    {frame["code"] or ""}'
        for frame in found
    ]
    blocks = [*(["Traceback (most recent call last):"] if blocks else []), *blocks]
    return _fitted(name, value, [*blocks, f"{name}: {value}" if value else name], found, [])


def _fitted(
    name: str, value: str, blocks: list[str], found: list[dict[str, Any]], why: list[dict[str, Any]]
) -> dict[str, Any]:
    """All of it, or halves of it until it fits into a message."""
    halvings = 0
    while True:
        wire = {
            "name": clipped(name, NAME),
            "value": clipped(value, VALUE >> halvings),
            "traceback": _clipped_blocks(blocks, TRACEBACK >> halvings),
            "frames": _smaller_frames(found, FRAMES, halvings),
            "causes": [
                {
                    **cause,
                    "value": clipped(cause["value"], (VALUE // CAUSES) >> halvings),
                    "frames": _smaller_frames(cause["frames"], FRAMES // 4, halvings),
                }
                for cause in why[: max(CAUSES >> halvings, 1)]
            ],
        }
        # Escaped control characters are six bytes each: measure what will really be sent.
        if len(json.dumps(wire, ensure_ascii=False).encode("utf-8", "replace")) <= META_BYTES:
            return wire
        halvings += 1


def _smaller_frames(found: list[dict[str, Any]], most: int, halvings: int) -> list[dict[str, Any]]:
    if halvings == 0:
        return found
    return [
        {
            **frame,
            "file": clipped(frame["file"], NAME * 2 >> halvings),
            "function": clipped(frame["function"], NAME >> halvings),
            "code": frame["code"] and clipped(frame["code"], CODE >> halvings),
        }
        for frame in _bounded(found, max(most >> halvings, 2))
    ]


def frames(error: BaseException | None, cell_of: CellOf) -> list[dict[str, Any]]:
    """The stack from the cell inwards; a syntax error's place is its last line."""
    if not issubclass(type(error), BaseException) or error is None:
        return []
    found = _stack(own(error, "__traceback__"), cell_of)
    if issubclass(type(error), SyntaxError):
        file, line, text = (own(error, name, SyntaxError) for name in ("filename", "lineno", "text"))
        if type(file) is str and file:
            shown = text if type(text) is str else None
            found.append(_frame(file, line if type(line) is int else 0, "<module>", shown, cell_of))
    return found


def causes(error: BaseException | None, cell_of: CellOf) -> list[dict[str, Any]]:
    """`__cause__` and `__context__`, nearest first."""
    found: list[dict[str, Any]] = []
    seen = {id(error)}
    while error is not None and len(found) < CAUSES:
        cause = own(error, "__cause__")
        explicit = cause is not None
        hidden = explicit or own(error, "__suppress_context__")
        error = cause if hidden else own(error, "__context__")
        if error is None or id(error) in seen:
            break
        seen.add(id(error))
        found.append(
            {
                "name": clipped(name_of(type(error)), NAME),
                "value": clipped(text_of(error), VALUE // CAUSES),
                "explicit": explicit,
                "frames": frames(error, cell_of)[-FRAMES // 4 :],
            }
        )
    return found


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


def _stack(tb: TracebackType | None, cell_of: CellOf) -> list[dict[str, Any]]:
    found: list[tuple[str, int, str]] = []
    in_cell = False
    # Not extract_tb, which formats and reads every line of a deep recursion.
    for step in steps_of(tb):
        code = step.tb_frame.f_code
        file = exact(code.co_filename)
        in_cell = in_cell or cell_of(file) is not None
        # What of ours stands between a cell and what it called (`input`, a lazy module) is no step.
        if in_cell and not file.startswith(OURS):
            found.append((file, line_of(step), exact(code.co_name)))
    left_out = range(FRAMES // 2, len(found) - FRAMES // 2) if len(found) > FRAMES else range(0)
    # Of what is left out no line is read.
    wire = [_frame(*each, None, cell_of) if at not in left_out else {} for at, each in enumerate(found)]
    return _bounded(wire, FRAMES)


def _bounded(found: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    if len(found) <= most + 1:
        return found
    gap = f"{len(found) - most} frames left out"
    mark = {"execution": None, "file": "…", "line": 0, "function": gap, "code": None}
    return [*found[: most // 2], mark, *found[len(found) - most // 2 :]]


def _frame(file: str, line: int, function: str, code: str | None, cell_of: CellOf) -> dict[str, Any]:
    cell = cell_of(file)
    # Both are the user's to say.
    line = line if 0 <= line < 1 << 31 else 0
    return {
        "execution": cell[0] if cell else None,
        "file": clipped(file, NAME * 2),
        # IPython drops a cell's leading blank lines; people count them.
        "line": line + (cell[1] if cell else 0),
        "function": clipped(function, NAME),
        "code": clipped((_read(file, line) if code is None else code).strip(), CODE) or None,
    }


def _read(file: str, line: int) -> str:
    try:
        return exact(linecache.getline(file, line))
    except Exception:
        # A name that no file can have; a loader of the user's.
        return ""


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
