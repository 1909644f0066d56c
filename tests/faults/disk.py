"""A full disk at each write: what is free is varied from nothing to more than a checkpoint needs."""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from cellblock import CellblockError, Notebook, WorkerDied

from . import cells, talk
from .cells import Model
from .daemon import Daemon

DISK_BYTES: Final = 160 << 20
SIZE: Final = 1 << 15
"""Numbers in each array: both are written anew, or in part, by every step."""

_PAGE: Final = 4096
_DIE: Final = "import os\nos._exit(7)"


@dataclass
class Counts:
    """What was done and seen."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def run(daemon: Daemon, steps: int, seed: int) -> Counts:
    """Fills the disk so many times, saves, and lets the worker die: half of the times while it is full."""
    counts = Counts()
    choice = random.Random(f"{seed}/disk")
    _have_a_folder(daemon, "disk")
    with daemon.client() as client:
        notebook = client.open("disk", "warm")
        try:
            subject = _Subject(daemon, notebook, counts)
            need = subject.measure()
            for free in _rooms(need, steps):
                subject.round(free, restores_full=choice.random() < 0.5)
            subject.end()
        except CellblockError as error:
            counts.broken.append(f"{type(error).__name__}: {error}")
        notebook.delete()
    for file in ("packs/", "manifests/", "HEAD"):
        if not any(file in reason for reason in counts.reasons):
            counts.broken.append(f"the disk was never full at {file}")
    return counts


def _rooms(need: int, steps: int) -> list[int]:
    """From nothing to a little more than is needed.

    Half of them page by page at the end, where the pack is written already and manifest and `HEAD` are not.
    """
    coarse = steps // 2
    first = need - (steps - coarse) // 2 * _PAGE
    return [need * number // coarse for number in range(coarse)] + [
        first + number * _PAGE for number in range(steps - coarse)
    ]


class _Subject:
    def __init__(self, daemon: Daemon, notebook: Notebook, counts: Counts) -> None:
        self._daemon = daemon
        self._notebook = notebook
        self._counts = counts
        self._model = Model()
        self._filler = daemon.state / "filler"

    def measure(self) -> int:
        """The bytes that a checkpoint adds."""
        self._step()
        self._step()
        if self._model.saved != 2:
            raise CellblockError("it was not saved while there was room")
        store = self._daemon.store("disk")
        return sum((store / folder / "2").stat().st_blocks * 512 for folder in ("packs", "manifests"))

    def round(self, free: int, *, restores_full: bool) -> None:
        """One checkpoint with so many bytes free, and what comes back after it."""
        self._fill(free)
        before = self._model.saved
        told = self._step()
        if not restores_full:
            self._filler.unlink()
        ended = talk.run(self._notebook, _DIE)
        told += talk.said(ended)
        if isinstance(ended, CellblockError) or not isinstance(ended.outcome.end, WorkerDied):
            self._counts.broken.append(f"the worker did not end: {talk.short(ended)}")
        self._look(told, f"{free} bytes free, step {self._model.last}, saved {before}")
        self._filler.unlink(missing_ok=True)

    def end(self) -> None:
        """With room again, all is as ever; nothing half-written stays."""
        self._step()
        if self._model.saved != self._model.last:
            self._counts.broken.append("it is not saved although there is room again")
        store = self._daemon.store("disk")
        left = [str(path) for path in store.rglob(".*")]
        if left:
            self._counts.broken.append(f"half-written files are left: {left}")

    def _step(self) -> list[str]:
        self._model.last += 1
        number = self._model.last
        ended = talk.run(self._notebook, cells.step(number, SIZE), "wait", f"step-{number}")
        if isinstance(ended, CellblockError):
            # Before anything was run: a refusal that says why.
            self._counts.outcomes[f"refused: {type(ended).__name__}"] += 1
            self._check_reason(str(ended))
            return talk.said(ended)
        checkpoint = ended.outcome.checkpoint
        if not ended.outcome.ok or checkpoint is None:
            self._counts.broken.append(f"step {number}: {talk.short(ended)}")
            return talk.said(ended)
        self._model.live = number
        self._counts.outcomes[f"checkpoint {checkpoint.state}"] += 1
        if checkpoint.state == "saved":
            self._model.acknowledge(number)
        else:
            self._check_reason(checkpoint.reason or "")
        return talk.said(ended)

    def _check_reason(self, reason: str) -> None:
        if os.strerror(errno.ENOSPC).lower() in reason.lower():
            self._counts.reasons[_without_numbers(reason)] += 1
        else:
            self._counts.broken.append(f"a full disk is told as: {reason}")

    def _look(self, told: list[str], after: str) -> None:
        for _ in range(3):
            ended = talk.run(self._notebook, cells.LOOK)
            told += talk.said(ended)
            if isinstance(ended, CellblockError):
                self._counts.outcomes[f"no worker while full: {type(ended).__name__}"] += 1
                # It needs room for something: with room it must come.
                self._filler.unlink(missing_ok=True)
                continue
            seen, trail = cells.shown(ended.stdout)
            verdict = cells.judge(seen, trail, "; ".join(told), self._model, alive=False)
            self._counts.verdicts[verdict.kind] += 1
            if not verdict.holds or talk.newest(self._daemon.store("disk")) != seen["n"]:
                self._counts.broken.append(f"{after}: {verdict.kind}: {verdict.detail}")
            self._model.live = self._model.saved
            return
        self._counts.broken.append(f"{after}: no cell runs any more: {told}")

    def _fill(self, free: int) -> None:
        """Leaves so many bytes, to a page."""
        self._filler.unlink(missing_ok=True)
        room = os.statvfs(self._daemon.state)
        pages = room.f_bavail * room.f_frsize // _PAGE - free // _PAGE
        with self._filler.open("wb") as file:
            # What a disk needs for its own books is not what it tells as free.
            while True:
                try:
                    os.posix_fallocate(file.fileno(), 0, pages * _PAGE)
                    return
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    pages -= 1


def _have_a_folder(daemon: Daemon, name: str) -> None:
    """A workspace that is a folder, as one is that had files before there were quotas.

    What is new would be an image, which needs room for itself.
    """
    workspace = daemon.store(name).with_name("workspace")
    workspace.mkdir(parents=True)
    (workspace / "here-before").touch()


def _without_numbers(reason: str) -> str:
    return "".join("#" if letter.isdigit() else letter for letter in reason)
