"""Who kills and fills disks at random, and tells each notebook what was done to it."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.faults import processes
from tests.faults.daemon import Daemon
from tests.faults.processes import Process

from .record import Counts
from .subject import DISK_FILLED, Subject

WEIGHTS: Final = {
    "worker": 30,
    "shim": 12,
    "init": 8,
    "store": 10,
    "snapshot": 10,
    "cellblockd": 12,
    "zygote or spare": 8,
    "disk": 8,
}

_FULL_SECONDS: Final = 2.0
"""The disk is full for at most so long."""

SPARE_PROFILE: Final = "spares"
"""Whose workers bear no notebook's name: what is killed of a spare may be any notebook's by then."""


class Killer:
    """Works until it is told to stop, and leaves a cellblockd that runs and a disk that has room."""

    def __init__(
        self, daemon: Daemon, subjects: Sequence[Subject], seed: int, gap_seconds: float, counts: Counts
    ) -> None:
        self._daemon = daemon
        self._subjects = subjects
        self._choice = random.Random(f"{seed}/killer")
        self._gap_seconds = gap_seconds
        self._counts = counts
        self._filler = daemon.state / "filler"

    def run(self, stop: threading.Event) -> None:
        """Kills this and that."""
        while not stop.wait(self._choice.expovariate(1 / self._gap_seconds)):
            what = self._choice.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            subject = self._choice.choice(self._subjects)
            try:
                done = self._do(what, subject, stop)
            except Exception as error:
                subject.broke(f"the killer met {error!r} when it was to kill: {what}")
                done = False
            self._counts.add(self._counts.kills, what if done else f"{what}: gone before")

    def _do(self, what: str, subject: Subject, stop: threading.Event) -> bool:
        match what:
            case "cellblockd":
                return self._kill_daemon()
            case "disk":
                return self._fill(stop)
            case "zygote or spare":
                return self._kill_nameless()
            case _:
                return self._kill_part(what, subject)

    def _kill_daemon(self) -> bool:
        self._counts.daemon_kills.append(time.monotonic())
        self._daemon.kill()
        time.sleep(self._choice.random() ** 3)
        self._daemon.start()
        self._counts.daemon_kills.append(time.monotonic())
        return True

    def _kill_part(self, what: str, subject: Subject) -> bool:
        if what in ("store", "snapshot"):
            processes.within(0.5, lambda: what in self._daemon.sandbox(subject.name))
        process = self._daemon.sandbox(subject.name).get(what)
        return process is not None and self._kill(process, [subject], what)

    def _kill_nameless(self) -> bool:
        """A zygote, or a spare, which may be a notebook's by then: of its shim, its init or its Python."""
        anchor = self._daemon.anchor()
        family = []
        for shim, words in [] if anchor is None else processes.children(anchor.pid):
            if any(word.startswith("nobody-") for word in words):
                inits = [init for init, _ in processes.children(shim.pid)]
                pythons = [python for init in inits for python, _ in processes.children(init.pid)]
                family += [self._choice.choice([shim, *inits[:1], *pythons[:1]])]
        harmed = [one for one in self._subjects if one.profile == SPARE_PROFILE]
        return bool(family) and self._kill(self._choice.choice(family), harmed, "spare")

    def _kill(self, process: Process, harmed: Sequence[Subject], what: str) -> bool:
        for _ in range(2):
            # Before, because it shows at once; after, because it may show late.
            for subject in harmed:
                subject.harm(f"killed {what}")
            hit = process.kill()
        return hit or not process.lives()

    def _fill(self, stop: threading.Event) -> bool:
        """Leaves hardly any room for a while."""
        for subject in self._subjects:
            subject.harm(DISK_FILLED, lasting_seconds=_FULL_SECONDS)
        try:
            _fill(self._filler, leave=self._choice.choice((0, 4096, 65536, 1 << 20)))
            stop.wait(_FULL_SECONDS * self._choice.random())
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._filler.unlink()
            for subject in self._subjects:
                subject.harm(DISK_FILLED)
        return True


def _fill(file: Path, leave: int) -> None:
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        room = os.statvfs(file.parent)
        try:
            os.posix_fallocate(filler.fileno(), 0, max(1, room.f_bavail * room.f_frsize - leave))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
