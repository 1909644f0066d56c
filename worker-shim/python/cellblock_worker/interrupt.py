"""SIGINT: raised in the run that the shim names, dropped otherwise.

The shim writes a run's number into the shared page, then sends SIGINT. A signal that arrives when
that run is over finds another number in progress, or none.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import signal
import struct
from types import FrameType

from .native import Native

PAGE_FD = 4
INTERRUPT_OFFSET = 0


class Interrupts:
    """Decides what a SIGINT does."""

    def __init__(self, native: Native) -> None:
        # Set by `attach`.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._native = native
        self.held = 0
        self.missed = False
        self._task: asyncio.Task[None] | None = None
        self._run = 0
        self._page: mmap.mmap | None = None
        # An interrupt was delivered in this run, by exception or by cancelling its task.
        self.delivered = False
        # The cell was awaiting: what it sees is CancelledError, what it means is KeyboardInterrupt.
        self.cancelled = False
        self._cancelling = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes what a process has for itself: its loop, its page, its signal."""
        self._loop = loop
        self._page = _shared_page()
        self.rest()

    def begin(self, run: int, task: asyncio.Task[None]) -> None:
        """From here on `run` may be interrupted."""
        self.delivered = self.cancelled = self._cancelling = False
        self._task = task
        # User code may have put its own handler in place, or blocked the signal.
        self.rest()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        self._run = run

    def end(self) -> None:
        """From here on nothing is interrupted, whatever handler user code has put in place."""
        self._run = 0
        self.rest()

    def rest(self) -> None:
        """Puts the handler in place again between runs: the default one would end the worker."""
        signal.signal(signal.SIGINT, self._on_signal)
        # Without it a signal may be slept through; there is nothing to do about a failure.
        self._native.nudge_install()

    def hold(self) -> Hold:
        """While it is entered, an interrupt waits; at its end it is raised. Main thread only."""
        return Hold(self)

    def become_child(self) -> None:
        """In a forked child: a plain Python process."""
        self._run = 0
        self._native.nudge_forget()
        with contextlib.suppress(OSError):
            os.close(PAGE_FD)
        if self._page is not None:
            self._page.close()
            self._page = None
        if signal.getsignal(signal.SIGINT) == self._on_signal:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._native.nudge_seen()
        if self._run == 0 or self._loop is None or self._named() != self._run:
            return
        if self.held:
            self.delivered = self.missed = True
            return
        running = asyncio.current_task(self._loop)
        if running is self._task or self._cancelling:
            # `_cancelling` still set: the loop never came round, so another task holds it up.
            self.delivered = True
            raise KeyboardInterrupt
        self._cancelling = True
        # Thread-safe for its wake-up: the loop may be asleep in select.
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self._cancelling = False
        if self._run and self._task is not None:
            self.delivered = self.cancelled = True
            self._task.cancel()

    def _named(self) -> int:
        if self._page is None:
            return self._run
        number: int = struct.unpack_from("<Q", self._page, INTERRUPT_OFFSET)[0]
        return number


class Hold:
    """Keeps interrupts back."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def __enter__(self) -> None:
        self._interrupts.held += 1

    def __exit__(self, *_: object) -> None:
        self._interrupts.held -= 1
        if self._interrupts.missed and not self._interrupts.held:
            self._interrupts.missed = False
            raise KeyboardInterrupt


def _shared_page() -> mmap.mmap | None:
    # Without a page (tests, a shell) every SIGINT is for the run in progress.
    try:
        size = os.fstat(PAGE_FD).st_size
        return mmap.mmap(PAGE_FD, size, mmap.MAP_SHARED, mmap.PROT_READ)
    except (OSError, ValueError):
        return None
