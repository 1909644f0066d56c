"""A bound in time for what runs between Executions, where no interrupt reaches.

The signal's handler raises while it is armed and nowhere else. Arming and disarming stand within the `try`
that catches what it raises, so that a signal between any two instructions ends in the one or does nothing.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

# How soon it is told again, should somebody have caught it on the way.
AGAIN_SECONDS = 0.05


class OutOfTime(BaseException):
    """No `Exception`: nobody on the way is meant to catch it."""


class Alarm:
    """For one call. The user's own alarm and timer go on afterwards. Main thread only."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._armed = False

    def bound(self, call: Callable[[], T]) -> T:
        """Calls; raises `OutOfTime` when it takes longer. Nothing ends a call into C that never returns."""
        began = time.monotonic()
        handler = signal.signal(signal.SIGALRM, self._over)
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
        left, interval = signal.setitimer(signal.ITIMER_REAL, self._seconds, AGAIN_SECONDS)
        try:
            try:
                self._armed = True
                return call()
            finally:
                self._armed = False
        except OutOfTime:
            # It may have come in the middle of the disarming.
            self._armed = False
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            # What is due is delivered to us rather than to the user, whose own timer begins again below.
            # None: a handler that was not installed by Python, which cannot be put back.
            signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            if left:
                spent = time.monotonic() - began
                signal.setitimer(signal.ITIMER_REAL, max(left - spent, 1e-3), interval)

    def _over(self, _signum: int, _frame: FrameType | None) -> None:
        if self._armed:
            raise OutOfTime
