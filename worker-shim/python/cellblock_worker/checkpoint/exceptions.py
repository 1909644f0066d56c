"""Exceptions: made without their `__init__`, which need not take `args`, and with what they came from.

Pickle's own way drops `__cause__` and `__context__`. A traceback's frames hold whatever ran: of them is saved
where they stood, and a traceback made of that prints as the first did.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from .classes import HEAP, make_bare, owner_of

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reduction

# Kept by C, and set by an `__init__` that does not run.
_OF_THE_SYSTEM = ("errno", "strerror", "filename", "filename2")

# Of a deep recursion's traceback the two ends.
MOST_FRAMES = 100

# (file, function, line), outermost first
Places = tuple[tuple[str, str, int], ...]


def reduce_exception(pickler: GraphPickler, error: BaseException) -> Reduction:
    """Any that does not know better."""
    cls = type(error)
    asks = any(owner_of(cls, name).__flags__ & HEAP for name in ("__reduce__", "__reduce_ex__"))
    if asks or not owner_of(cls, "__init__").__flags__ & HEAP:
        reduction = pickler.ask(error)
        if type(reduction) is not tuple or len(reduction) > 3 or reduction[0] is not cls:
            return reduction
        function, arguments = reduction[:2]
        state = reduction[2] if len(reduction) == 3 else None
    else:
        function, arguments, state = make_exception, (cls, error.args), dict(error.__dict__)
        if isinstance(error, OSError):
            state.update({name: getattr(error, name) for name in _OF_THE_SYSTEM})
    chain = (error.__cause__, error.__context__, error.__suppress_context__)
    places = _places(error.__traceback__)
    if chain == (None, None, False) and not places:
        return function, arguments, state
    return function, arguments, (state, *chain, places), None, None, fill_exception


def make_exception(cls: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    """An exception without its `__init__`."""
    error = make_bare(cls, *arguments)
    assert isinstance(error, BaseException)
    error.args = arguments
    return error


def fill_exception(error: BaseException, state: tuple[Any, Any, Any, bool, Places]) -> None:
    """Its attributes, what it came from and where it was raised."""
    own, error.__cause__, error.__context__, error.__suppress_context__, places = state
    if own:
        error.__setstate__(own)
    error.__traceback__ = _traceback(places)


def _places(traceback: TracebackType | None) -> Places:
    found = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        found.append((code.co_filename, code.co_name, traceback.tb_lineno or 0))
        traceback = traceback.tb_next
    if len(found) > MOST_FRAMES:
        found[MOST_FRAMES // 2 : -MOST_FRAMES // 2] = []
    return tuple(found)


def _traceback(places: Places) -> TracebackType | None:
    made = None
    for file, function, line in reversed(places):
        frame = _frame(file, function, line)
        made = TracebackType(made, frame, frame.f_lasti, line)
    return made


def _frame(file: str, function: str, line: int) -> FrameType:
    """One that has ended, of code of this file and name, all of it in this line."""
    taken: list[FrameType] = []
    code = _TAKE.replace(
        co_filename=file, co_name=function, co_qualname=function, co_firstlineno=line, co_linetable=_ONE_LINE
    )
    exec(code, {"take": lambda: taken.append(sys._getframe(1))})
    return taken.pop()


def _one_line(code: CodeType) -> bytes:
    """A table that puts each instruction into the code's first line, and in no column.

    Entries as in CPython's Objects/locations.md: 0x80, the kind 13 (no columns), the number of code units
    less one; then by how much the line differs from that of the entry before.
    """
    table = b""
    units = len(code.co_code) // 2
    for start in range(0, units, 8):
        table += bytes([0x80 | 13 << 3 | min(8, units - start) - 1, 0])
    return table


_TAKE = compile("take()", "", "exec")
_ONE_LINE = _one_line(_TAKE)
