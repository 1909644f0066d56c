"""Whose output is it? Every task and thread knows the Execution that started it."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

EXECUTION: ContextVar[str] = ContextVar("cellblock_execution")

_foreground = ""


def set_foreground(execution: str) -> None:
    """Names the Execution to which everything belongs that nobody claims."""
    global _foreground
    _foreground = execution


def current_execution() -> str:
    """The Execution on whose behalf this code runs; "" before the first."""
    return EXECUTION.get(_foreground)


def follow_threads() -> None:
    """From now on a thread belongs to the Execution in which `start()` was called.

    asyncio tasks need no help, they copy the context. Threads begin with an empty one, and giving
    them a copy of the whole would change what `decimal` and others do in them.
    """
    start, bootstrap = threading.Thread.start, getattr(threading.Thread, "_bootstrap_inner", None)
    if bootstrap is None:  # a later CPython: threads then belong to the running cell
        return

    def started(self: Any) -> None:
        self._cellblock_execution = current_execution()
        start(self)

    def bootstrapped(self: Any) -> None:
        execution = getattr(self, "_cellblock_execution", "")
        if execution:
            EXECUTION.set(execution)
        bootstrap(self)

    started.__doc__ = start.__doc__
    threading.Thread.start = started  # type: ignore[method-assign]
    threading.Thread._bootstrap_inner = bootstrapped  # type: ignore[attr-defined]
