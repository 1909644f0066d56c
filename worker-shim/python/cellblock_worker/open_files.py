"""What the preparation of a zygote leaves open.

A worker has the zygote's descriptors no longer: what was open belongs to another sandbox. So there is no
zygote if something is left open that a worker would then not find, but for `/dev/null`, of which each worker
can open its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

# Where an open file is looked for: they are numbered from below.
MOST_FDS = 256
# Below are the numbers of a worker's own descriptors; what an import opens must not have one of them.
FIRST_KEPT = 16

_NULL = os.makedev(1, 3)
_KINDS = ((stat.S_ISREG, "a file"), (stat.S_ISSOCK, "a socket"), (stat.S_ISFIFO, "a pipe"))


class OpenFiles:
    """What is open before the preparation; afterwards each `/dev/null` that it keeps, by number."""

    def __init__(self) -> None:
        self._given = _open()
        self._reserved: list[int] = []
        while (fd := os.open(os.devnull, os.O_RDONLY)) < FIRST_KEPT:
            self._reserved.append(fd)
        os.close(fd)
        # With how each was opened: to read, write or both.
        self._null: dict[int, int] = {}

    def fault(self) -> str:
        """What is open that no worker could have, in words; or nothing."""
        self._null.clear()
        for fd in sorted(_open() - self._given - set(self._reserved)):
            status = os.fstat(fd)
            if not (stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL):
                kind = next((kind for is_it, kind in _KINDS if is_it(status.st_mode)), "something")
                return f"{kind} open (descriptor {fd})"
            self._null[fd] = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        return ""

    def release(self) -> None:
        """The low numbers are free again."""
        for fd in self._reserved:
            os.close(fd)
        self._reserved.clear()

    def reopen(self) -> None:
        """In a worker: each `/dev/null` again, of its own."""
        for fd, mode in self._null.items():
            own = os.open(os.devnull, mode)
            os.dup2(own, fd, inheritable=False)
            os.close(own)


def _open() -> set[int]:
    found = set()
    for fd in range(MOST_FDS):
        with contextlib.suppress(OSError):
            os.fstat(fd)
            found.add(fd)
    return found
