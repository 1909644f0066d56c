"""Exceptions: made without their `__init__`, which need not take `args`, and with what they came from.

Pickle's own way drops `__cause__` and `__context__`. A traceback holds frames, and is not saved by either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .classes import HEAP, make_bare, owner_of

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reduction

# Kept by C, and set by an `__init__` that does not run.
_OF_THE_SYSTEM = ("errno", "strerror", "filename", "filename2")


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
    if chain == (None, None, False):
        return function, arguments, state
    return function, arguments, (state, *chain), None, None, fill_exception


def make_exception(cls: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    """An exception without its `__init__`."""
    error = make_bare(cls, *arguments)
    assert isinstance(error, BaseException)
    error.args = arguments
    return error


def fill_exception(error: BaseException, state: tuple[Any, Any, Any, bool]) -> None:
    """Its attributes and what it came from."""
    own, error.__cause__, error.__context__, error.__suppress_context__ = state
    if own:
        error.__setstate__(own)
