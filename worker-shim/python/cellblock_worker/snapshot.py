"""A copy of this process, made in milliseconds, that is for one thing only: to save what it was copied from.

It is a fork, so that the next cell can run while it works. It is no child of the worker's: user code may wait
for all its children. And it has nothing that somebody could wait for, or that could wait for somebody: no
pipe, no socket but its own, no signal's handler.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
import select
import signal
import stat
from pathlib import Path
from typing import Any

# The kernel ends it before anything of the user's.
_OOM_SCORE = "1000"
# The next cell comes first.
_NICENESS = 10


class Snapshot:
    """One such process, as the worker sees it."""

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd

    def has_ended(self, within_seconds: float = 0) -> bool:
        """Whether it has, or does within that time."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(within_seconds * 1_000))

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self._pidfd

    def kill(self) -> None:
        """Ends it, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Forgets it."""
        os.close(self._pidfd)


class Forks:
    """The native library's half."""

    def __init__(self, path: str) -> None:
        # The interpreter's lock stays with the caller.
        self._fork_aside = ctypes.PyDLL(path).cellblock_fork_aside
        self._fork_aside.argtypes = [ctypes.c_void_p]

    def aside(self, *keep: int) -> Snapshot | None:
        """Forks. None in the new process, which has kept some descriptors, and must leave by `os._exit`.

        # Errors
        `OSError`: there is no new process.
        """
        pidfd = ctypes.c_int()
        # Python draws its seed anew in a fork; this one is to save what it was copied from.
        drawn = random.getstate()
        made = self._fork_aside(ctypes.addressof(pidfd))
        if made < 0:
            raise OSError(-made, f"failed to fork: {os.strerror(-made)}")
        if made == 0:
            try:
                random.setstate(drawn)
                _be_nobody(keep)
            except BaseException:
                os._exit(70)
            return None
        return Snapshot(pidfd.value)


def _be_nobody(keep: tuple[int, ...]) -> None:
    gc.disable()
    for number in signal.valid_signals():
        # An interrupt goes to all processes of the sandbox, and is meant for the cell. And who was told
        # something may have died since: what is saved is the more needed.
        ignored = number in (signal.SIGINT, signal.SIGPIPE)
        wanted: Any = signal.SIG_IGN if ignored else signal.SIG_DFL
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, wanted)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        if standard not in keep:
            os.dup2(null, standard)
    for fd in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        # Where a file of the user's stands is asked of its descriptor.
        with contextlib.suppress(OSError):
            if fd > 2 and fd not in keep and not stat.S_ISREG(os.fstat(fd).st_mode):
                os.close(fd)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
