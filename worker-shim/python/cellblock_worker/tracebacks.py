"""How an exception is shown: by IPython where it has a form for it, else by Python."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

from .errors import CellOf, exact, line_of, own, steps_of

# What IPython formats: a step takes it up to a millisecond, and the number of causes counts squared.
STEPS = 200
# What Python formats: a group that holds another twice has it there twice, and so on.
MEMBERS = 50_000

_FILE = re.compile(r'File "([^"\n]+)"')


def give_lines(formatter: Any) -> None:
    """Makes IPython's formatter of tracebacks fit for every one."""
    formatter.get_records = partial(_records, formatter.get_records)


def _records(found: Callable[..., Any], tb: TracebackType, *rest: Any) -> Any:
    """IPython's `get_records`, which is `found`, with a line for every step.

    CPython 3.11 compiles the jump back of a loop that ends in nested branches without one, and it is
    at jumps back that an interrupt arrives. IPython formats no traceback that has such a step.
    """
    whole: TracebackType | None = None
    lines = {}
    for step in reversed(list(steps_of(tb))):
        lines[step.tb_frame] = line = line_of(step)
        whole = TracebackType(whole, step.tb_frame, step.tb_lasti, line)
    records = found(whole, *rest)
    for record in records:
        if record.lineno is None:
            # Stays none for what stands for many: IPython passes over it.
            record.lineno = lines.get(record.frame)
    return records


def suits_ipython(error: BaseException) -> bool:
    """Whether IPython has a form for it and its causes, and needs less than a second."""
    steps = 0
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        steps += 1 + sum(1 for _ in steps_of(own(each, "__traceback__")))
        if steps > STEPS or issubclass(type(each), BaseExceptionGroup):
            return False
        waiting += [own(each, "__cause__"), own(each, "__context__")]
    return True


def plain(
    error: BaseException,
    tb: TracebackType | None,
    tb_offset: int,
    cell_of: CellOf,
    name_of_code: Callable[[str], tuple[str, str] | None],
) -> list[str]:
    """The traceback as Python writes it. `tb_offset` is for one without a step of a cell."""
    if _members(error) > MEMBERS:
        raise ValueError("a group of more exceptions than can be formatted")
    steps = list(steps_of(tb))
    cells = [step for step in steps if cell_of(exact(step.tb_frame.f_code.co_filename)) is not None]
    # What stands before it is how a cell is run.
    tb = next(iter(cells or steps[tb_offset:]), None)

    def named(match: re.Match[str]) -> str:
        cell = name_of_code(match[1])
        return f"{cell[0]} {cell[1]}" if cell else match[0]

    blocks = traceback.format_exception(type(error), error, tb)
    return [_FILE.sub(named, block.rstrip("\n")) for block in blocks]


def _members(error: BaseException) -> int:
    """How many exceptions it takes to write it; no more are counted than matter."""
    count = 0
    seen: set[int] = set()
    waiting = [error]
    while waiting and count <= MEMBERS:
        each = waiting.pop()
        count += 1
        for cause in (own(each, "__cause__"), own(each, "__context__")):
            if cause is not None and id(cause) not in seen:
                seen.add(id(cause))
                waiting.append(cause)
        if issubclass(type(each), BaseExceptionGroup):
            waiting += own(each, "exceptions", BaseExceptionGroup)
    return count
