"""Exceptions as `ErrorReport`: what IPython shows, and the same as data."""

from __future__ import annotations

import json
import linecache
import traceback
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
# What IPython formats: a step takes it up to a millisecond, and the number of causes counts squared.
STEPS = 200

# Where the worker's own code lies; compiled code names its sources.
OURS = f"{Path(__file__).parent}/"
# The file names of cells; see `Compiler.cache` in shell.py.
CellOf = Callable[[str], "tuple[str, int] | None"]


def text_of(error: BaseException | None) -> str:
    """`str(error)`, whatever that does."""
    try:
        return clipped(str(error), VALUE) + _why_missing(error)
    except BaseException as failure:
        return f"<str() of this {name_of(type(error))} raised {name_of(type(failure))}>"


def name_of(kind: type) -> str:
    """`kind.__name__`, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return name


def _why_missing(error: BaseException | None) -> str:
    """Of a name of the user's that a restore has left unbound."""
    name = error.name if type(error) is NameError else None
    reason = names.missing.get(name) if type(name) is str else None
    if reason is None or error is None:
        return ""
    raised_in = ""
    for frame, _ in traceback.walk_tb(_own(error, "__traceback__")):
        raised_in = frame.f_globals.get("__name__", "")
    # Another module may lack a name of its own that is called the same.
    return f"; it was not restored: {clipped(reason, CODE)}" if raised_in == "__main__" else ""


def report(name: str, error: BaseException | None, blocks: list[str], cell_of: CellOf) -> dict[str, Any]:
    """The wire form of an exception. `blocks` is IPython's traceback."""
    budget = TRACEBACK
    why = _why_missing(error)
    if why:
        # The last line of what IPython shows is the exception's text.
        blocks = [*blocks[:-1], blocks[-1].rstrip("\n") + why] if blocks else blocks
    wire: dict[str, Any] = {
        "name": clipped(name, NAME),
        "value": text_of(error),
        "traceback": _clipped_blocks(blocks, budget),
        "frames": frames(error, cell_of),
        "causes": causes(error, cell_of),
    }
    # Escaped control characters are six bytes each: measure what will really be sent.
    while len(json.dumps(wire, ensure_ascii=False).encode("utf-8", "replace")) > META_BYTES and budget > 100:
        budget //= 2
        wire["traceback"] = _clipped_blocks(blocks, budget)
        wire["value"] = clipped(wire["value"], max(budget // 3, 100))
        for cause in wire["causes"]:
            cause["value"] = clipped(cause["value"], max(budget // 30, 100))
    return wire


def frames(error: BaseException | None, cell_of: CellOf) -> list[dict[str, Any]]:
    """The stack from the cell inwards; a syntax error's place is its last line."""
    if error is None:
        return []
    found = _stack(_own(error, "__traceback__"), cell_of)
    if issubclass(type(error), SyntaxError):
        file, line, text = (_own(error, name, SyntaxError) for name in ("filename", "lineno", "text"))
        if type(file) is str and file:
            shown = text if type(text) is str else None
            found.append(_frame(file, line if type(line) is int else 0, "<module>", shown, cell_of))
    return found


def causes(error: BaseException | None, cell_of: CellOf) -> list[dict[str, Any]]:
    """`__cause__` and `__context__`, nearest first."""
    found: list[dict[str, Any]] = []
    seen = {id(error)}
    while error is not None and len(found) < CAUSES:
        cause = _own(error, "__cause__")
        explicit = cause is not None
        hidden = explicit or _own(error, "__suppress_context__")
        error = cause if hidden else _own(error, "__context__")
        if error is None or id(error) in seen:
            break
        seen.add(id(error))
        found.append(
            {
                "name": clipped(name_of(type(error)), NAME),
                "value": clipped(text_of(error), VALUE // CAUSES),
                "explicit": explicit,
                "frames": frames(error, cell_of)[-10:],
            }
        )
    return found


def records(found: Callable[..., Any], tb: TracebackType, *rest: Any) -> Any:
    """IPython's `get_records`, which is `found`, with a line for every step.

    CPython 3.11 compiles the jump back of a loop that ends in nested branches without one, and it is
    at jumps back that an interrupt arrives. IPython formats no traceback that has such a step.
    """
    whole: TracebackType | None = None
    lines = {}
    for step in reversed(list(_steps(tb))):
        lines[step.tb_frame] = line = _line_of(step)
        whole = TracebackType(whole, step.tb_frame, step.tb_lasti, line)
    steps = found(whole, *rest)
    for step in steps:
        if step.lineno is None:
            # Stays none for what stands for many: IPython passes over it.
            step.lineno = lines.get(step.frame)
    return steps


def suits_ipython(error: BaseException) -> bool:
    """Whether IPython has a form for it and its causes, and needs less than a second."""
    steps = 0
    for each in _chain(error):
        steps += 1 + sum(1 for _ in _steps(_own(each, "__traceback__")))
        if steps > STEPS or issubclass(type(each), BaseExceptionGroup):
            return False
    return True


def plain(error: BaseException, cell_of: CellOf) -> list[str]:
    """The traceback as Python itself writes it."""
    tb = _own(error, "__traceback__")
    for step in _steps(tb):
        if cell_of(step.tb_frame.f_code.co_filename) is not None:
            # What stands before it is how a cell is run.
            tb = step
            break
    try:
        return [block.rstrip("\n") for block in traceback.format_exception(type(error), error, tb)]
    except Exception:
        # Code objects and attributes can be what no formatter expects.
        steps = [
            f'  File "{step["file"]}", line {step["line"]}, in {step["function"]}\n    {step["code"] or ""}'
            for step in frames(error, cell_of)
        ]
        return ["Traceback (most recent call last):", *steps, f"{name_of(type(error))}: {text_of(error)}"]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """It, and every exception that it names as cause or context."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [_own(each, "__cause__"), _own(each, "__context__")]


def _own(error: BaseException, name: str, kind: type = BaseException) -> Any:
    """An attribute that every exception has, whatever a class of the user's says about it."""
    return getattr(kind, name).__get__(error)


def _steps(tb: TracebackType | None) -> Iterator[TracebackType]:
    while tb is not None:
        yield tb
        tb = tb.tb_next


def _line_of(step: TracebackType) -> int:
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
    return f"{text[:half]}… [{len(text) - 2 * half} characters left out] …{text[-half:]}"


def _stack(tb: TracebackType | None, cell_of: CellOf) -> list[dict[str, Any]]:
    found: list[tuple[str, int, str]] = []
    in_cell = False
    # Not extract_tb, which formats and reads every line of a deep recursion.
    for step in _steps(tb):
        code = step.tb_frame.f_code
        in_cell = in_cell or cell_of(code.co_filename) is not None
        # What of ours stands between a cell and what it called (`input`, a lazy module) is no step.
        if in_cell and not code.co_filename.startswith(OURS):
            found.append((code.co_filename, _line_of(step), code.co_name))
    return _bounded([_frame(file, line, function, None, cell_of) for file, line, function in found])


def _bounded(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(found) <= FRAMES:
        return found
    gap = f"{len(found) - FRAMES} frames left out"
    mark = {"execution": None, "file": "…", "line": 0, "function": gap, "code": None}
    return [*found[: FRAMES // 2], mark, *found[-FRAMES // 2 :]]


def _frame(file: str, line: int, function: str, code: str | None, cell_of: CellOf) -> dict[str, Any]:
    cell = cell_of(file)
    shown = code if code is not None else linecache.getline(file, line or 0)
    return {
        "execution": cell[0] if cell else None,
        "file": clipped(file, NAME * 2),
        # IPython drops a cell's leading blank lines; people count them.
        "line": max(line or 0, 0) + (cell[1] if cell else 0),
        "function": clipped(function, NAME),
        "code": clipped(shown.strip(), CODE) or None,
    }


def _clipped_blocks(blocks: list[str], budget: int) -> list[str]:
    if sum(map(len, blocks)) <= budget:
        return blocks
    # The end names the exception, the beginning the cell: keep both, whole blocks where they fit.
    head: list[str] = []
    tail: list[str] = []
    left = budget
    rest = list(blocks)
    while rest and left > 0:
        kept = tail if len(tail) <= len(head) else head
        block = clipped(rest.pop() if kept is tail else rest.pop(0), max(left // 2, 50))
        kept.append(block)
        left -= len(block)
    middle = [f"… [{len(rest)} blocks of the traceback left out] …"] if rest else []
    return [*head, *middle, *reversed(tail)]
