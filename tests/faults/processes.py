"""Processes of a cellblockd: found by what bears the name of its folder, and by who is whose child."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process that lives: its id, and when it began, so that a reused id is not mistaken for it."""

    pid: int
    began: int

    @classmethod
    def read(cls, pid: int) -> Process | None:
        """None when it does not live; a zombie does not."""
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else cls(pid, int(fields[19]))

    def lives(self) -> bool:
        """Whether it still does."""
        return Process.read(self.pid) == self

    def kill(self) -> bool:
        """SIGKILL; whether it still lived."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # Asked after the descriptor is ours: from here on the id cannot be somebody else's.
            if not self.lives():
                return False
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


def described(found: list[Process]) -> list[str]:
    """For people: what tells where a process comes from, and what it waits for."""
    return [_described(one.pid) for one in found]


def sandbox(anchor: int, notebook: str) -> dict[str, Process]:
    """What a notebook has just now: its newest `shim`, and its `store`, `init`, `worker`, `snapshot`."""
    found: dict[str, Process | None] = {}
    for shim in reversed(_children(anchor)):
        words = _command(shim)
        if "--worker" in words and words[words.index("--worker") + 1].rpartition("-")[0] == notebook:
            found["shim"] = Process.read(shim)
            for child in _children(shim):
                if "--store" in _command(child):
                    found["store"] = Process.read(child)
                else:
                    found["init"] = Process.read(child)
                    # The first that it has is the worker; what it inherits later is the worker's fork.
                    for name, grandchild in zip(("worker", "snapshot"), _children(child), strict=False):
                        found[name] = Process.read(grandchild)
            break
    return {name: process for name, process in found.items() if process is not None}


def children(pid: int) -> list[tuple[Process, list[str]]]:
    """A process's children with the words of their commands."""
    found = ((Process.read(child), _command(child)) for child in _children(pid))
    return [(process, words) for process, words in found if process is not None]


def with_argument(word: str) -> Process | None:
    """The one that was started with this word."""
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    found = [Process.read(pid) for pid in pids if word in _command(pid)]
    return next((process for process in found if process is not None), None)


def marked(mark: str) -> list[Process]:
    """All but this one that bear `mark` in arguments, environment, mounts or links."""
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    bearers = [pid for pid in pids if pid != os.getpid() and _bears(pid, mark)]
    return [process for pid in bearers if (process := Process.read(pid)) is not None]


def loops(mark: str) -> list[str]:
    """Loop devices whose file bears `mark`."""
    files = Path("/sys/block").glob("loop*/loop/backing_file")
    return [text for file in files if mark in (text := _text(file))]


def mounts(mark: str) -> list[str]:
    """Mounts in our own mount namespace that bear `mark`."""
    return [line for line in _text(PROC / "self/mountinfo").splitlines() if mark in line]


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Looks again and again until it holds, or the time is over."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def _described(pid: int) -> str:
    facts = [
        line.replace("\t", " ")
        for line in _text(PROC / str(pid) / "status").splitlines()
        if line.startswith(("State", "PPid", "NSpid", "Uid", "ShdPnd", "Threads"))
    ]
    waits = _text(PROC / str(pid) / "wchan")
    return f"{pid} {', '.join(facts)}, in {waits or '?'}: {' '.join(_command(pid))[:80]}"


def _stat(pid: int) -> list[str] | None:
    # The name stands in parentheses and may hold some itself.
    _, _, rest = _text(PROC / str(pid) / "stat").rpartition(") ")
    return rest.split() or None


def _children(pid: int) -> list[int]:
    return [int(child) for child in _text(PROC / f"{pid}/task/{pid}/children").split()]


def _command(pid: int) -> list[str]:
    return _text(PROC / str(pid) / "cmdline").split("\0")


def _text(path: Path) -> str:
    # It may end between being found and being read.
    with contextlib.suppress(OSError):
        return path.read_bytes().decode(errors="replace")
    return ""


def _bears(pid: int, mark: str) -> bool:
    folder = PROC / str(pid)
    if any(mark in _text(folder / name) for name in ("cmdline", "environ", "mountinfo")):
        return True
    for link in ("cwd", "exe", "root"):
        with contextlib.suppress(OSError):
            if mark in str((folder / link).readlink()):
                return True
    return False
