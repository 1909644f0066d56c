"""What a fork hands on of its process, as a fresh interpreter has it: an import may have changed it."""

from __future__ import annotations

import contextlib
import locale
import os
import signal
from pathlib import Path
from typing import Any

_Handler = Any  # what `signal.getsignal` gives: a callable, a number, or None


class ProcessState:
    """Signals, umask, folder and locale; read when nothing has been imported yet."""

    def __init__(self) -> None:
        self._handlers: dict[int, _Handler] = {
            number: signal.getsignal(number) for number in signal.valid_signals()
        }
        self._blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        self._umask = _umask()
        self._folder = Path.cwd()
        self._locale = locale.setlocale(locale.LC_ALL)

    def put_back(self) -> None:
        """Changes what has changed since."""
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._blocked)
        signal.set_wakeup_fd(-1)
        os.umask(self._umask)
        os.chdir(self._folder)
        if locale.setlocale(locale.LC_ALL) != self._locale:
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_ALL, self._locale)


def _umask() -> int:
    umask = os.umask(0o022)
    os.umask(umask)
    return umask
