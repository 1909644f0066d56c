"""A torn write, a flipped bit, a missing file, in every kind of file of a store and in every part of it."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from cellblock import CellblockError, Client, Completed, Timeout

from . import cells, talk
from .cells import Model
from .daemon import Daemon
from .store_files import Region, regions

SIZE: Final = 1 << 18
"""Numbers in each array: 2 MiB, so that a buffer has a recipe, and the stream has more than one chunk."""

_STEPS: Final = 3
_TOLD_SECONDS: Final = 3.0
"""A buffer's chunks are verified while the worker has them already: how long its word may take."""

_NAME: Final = "damage"

Act = Literal["flip", "torn", "zeros", "missing"]


@dataclass(frozen=True)
class Damage:
    """One, in one file: at `at` a bit flips, or the file ends, or zeros begin up to the region's end."""

    region: Region
    act: Act
    at: int
    bit: int

    def do(self, store: Path) -> None:
        """Damages."""
        file = store / self.region.file
        if self.act == "missing":
            return file.unlink()
        with file.open("r+b") as opened:
            if self.act == "flip":
                opened.seek(self.at)
                byte = opened.read(1)[0]
                opened.seek(self.at)
                opened.write(bytes([byte ^ 1 << self.bit]))
                return None
            if self.act == "torn":
                opened.truncate(self.at)
            else:
                opened.seek(self.at)
                opened.write(bytes(self.region.end - self.at))
        return None

    @property
    def row(self) -> str:
        """Under which it is counted."""
        return f"{self.region.kind}, {self.act}"

    @property
    def is_unverified(self) -> bool:
        """Whether only bytes of buffers are others than before: they are mapped before they are hashed."""
        return self.region.kind.endswith(": buffer") and self.act in ("flip", "zeros")

    def __str__(self) -> str:
        return f"{self.act} at {self.at} (bit {self.bit}) of {self.region.file}, {self.region.kind}"


@dataclass
class Counts:
    """What was done and seen, by kind of damage; `again` is of the checkpoint that is taken afterwards."""

    first: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    again: Counter[str] = field(default_factory=Counter)
    unverified: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0


def draw(found: list[Region], each: int, choice: random.Random) -> list[Damage]:
    """Of each kind of region `each` of each act, first and last byte among them; and each file missing."""
    kinds: defaultdict[str, list[Region]] = defaultdict(list)
    for region in found:
        kinds[region.kind].append(region)
    drawn = []
    acts: tuple[Act, ...] = ("flip", "torn", "zeros")
    for regions_ in kinds.values():
        for act in acts:
            for number in range(each):
                region = choice.choice(regions_)
                inside = choice.randrange(region.begin, region.end)
                at = (inside, region.begin, region.end - 1)[number % 3]
                drawn.append(Damage(region, act, at, choice.randrange(8)))
    files = {region.file: region for region in found}
    return drawn + [Damage(region, "missing", 0, 0) for region in files.values()]


def run(daemon: Daemon, each: int, seed: int) -> Counts:
    """Damages a store of three checkpoints in all these ways, and looks each time what comes back."""
    counts = Counts()
    choice = random.Random(f"{seed}/damage")
    with daemon.client() as client:
        try:
            bench = _Bench(daemon, client, counts)
            for damage in draw(regions(bench.golden), each, choice):
                bench.try_damage(damage)
            bench.control()
        except CellblockError as error:
            counts.broken.append(f"{type(error).__name__}: {error}")
        client.open(_NAME, "warm").delete()
    return counts


class _Bench:
    """A store as it should be, and the notebook whose it is."""

    def __init__(self, daemon: Daemon, client: Client, counts: Counts) -> None:
        self._client = client
        self._counts = counts
        self._store = daemon.store(_NAME)
        self.golden = daemon.home / "golden"
        self._notebook = client.open(_NAME, "warm")
        for number in range(1, _STEPS + 1):
            self._step(number)
        self._notebook.close()
        subprocess.run(["cp", "-a", self._store, self.golden], check=True)

    def try_damage(self, damage: Damage) -> None:
        """Damages, looks; saves, and looks again."""
        model = Model(last=_STEPS, saved=_STEPS, acknowledged=list(range(1, _STEPS + 1)))
        began = time.monotonic()
        kind = self._life(model, damage)
        if damage.is_unverified:
            self._counts.unverified[kind] += 1
        else:
            self._counts.first[damage.row][kind] += 1
        if kind in ("right", "fallen back, told", "lost by name"):
            self._again(damage, model)
        self._notebook.close()
        took = time.monotonic() - began
        self._counts.slowest_seconds = max(self._counts.slowest_seconds, took)

    def control(self) -> None:
        """What the checks are there for, made by hand, must be seen: a mixture, and an older state untold."""
        model = Model(last=_STEPS, saved=_STEPS, acknowledged=[_STEPS])

        def mix() -> None:
            self._notebook = self._client.open(_NAME, "warm")
            talk.run(self._notebook, cells.CONTROL, "wait")
            self._notebook.close()

        def roll_back() -> None:
            for folder in ("manifests", "packs"):
                (self._store / folder / str(_STEPS)).unlink()
            (self._store / "HEAD").unlink()

        for act, expected in ((mix, "mixture"), (roll_back, "older than the newest checkpoint")):
            self._put_back()
            act()
            self._notebook = self._client.open(_NAME, "warm")
            ended = talk.run(self._notebook, cells.LOOK)
            seen, trail = cells.shown(ended.stdout) if isinstance(ended, Completed) else ({}, [])
            verdict = cells.judge(seen, trail, "", model, alive=False)
            if verdict.kind != expected:
                self._counts.broken.append(f"the control {expected!r} was not seen: {verdict}")
            self._notebook.close()

    def _life(self, model: Model, damage: Damage) -> str:
        """What a new worker has, in the words of the summary."""
        self._put_back()
        damage.do(self._store)
        self._notebook = self._client.open(_NAME, "warm")
        verdict = self._look(model)
        kind = _WORDS.get(verdict.kind, verdict.kind)
        if kind == "silently wrong" and damage.is_unverified:
            return self._wait_for_word(kind)
        if not verdict.holds:
            self._counts.broken.append(f"{damage}: {verdict.kind}: {verdict.detail}")
        return kind

    def _wait_for_word(self, kind: str) -> str:
        """Wrong values that are told after all, in time."""
        until = time.monotonic() + _TOLD_SECONDS
        while time.monotonic() < until:
            if talk.said(talk.run(self._notebook, "pass")):
                return "wrong at first, told then"
            time.sleep(0.05)
        return kind

    def _again(self, damage: Damage, model: Model) -> None:
        """The checkpoint after the damage: what is said to be saved must come back, or be told."""
        ended = talk.run(self._notebook, cells.step(_STEPS + 1, SIZE), "wait", f"again-{time.monotonic_ns()}")
        checkpoint = ended.outcome.checkpoint if isinstance(ended, Completed) else None
        if checkpoint is None and damage.is_unverified and "damaged on the disk" in talk.short(ended):
            # It was looked at before every byte of it had been.
            self._counts.again["the worker ended, told"] += 1
            return
        if checkpoint is None:
            self._counts.broken.append(f"{damage}: the next step: {talk.short(ended)}")
            return
        if checkpoint.state != "saved":
            self._counts.again["failed, told"] += 1
            return
        model.last = model.saved = _STEPS + 1
        model.acknowledged = [_STEPS + 1]
        self._notebook.close()
        self._notebook = self._client.open(_NAME, "warm")
        verdict = self._look(model)
        kind = _WORDS.get(verdict.kind, verdict.kind)
        self._counts.again[kind if kind == "right" else f"{kind}: {damage.row}"] += 1
        if not verdict.holds:
            self._counts.broken.append(
                f"{damage}, and a checkpoint after it: {verdict.kind}: {verdict.detail}"
            )

    def _look(self, model: Model) -> cells.Verdict:
        ended = talk.run(self._notebook, cells.LOOK)
        told = talk.said(ended)
        if isinstance(ended, Timeout):
            return cells.Verdict("hung", str(ended))
        if isinstance(ended, CellblockError) and "restart the notebook" in str(ended):
            self._notebook.restart()
            ended = talk.run(self._notebook, cells.LOOK)
            told += talk.said(ended)
        if isinstance(ended, Completed) and not ended.stdout:
            # What the worker had mapped was found damaged while the cell ran: it is ended, and says why.
            ended = talk.run(self._notebook, cells.LOOK)
            told += talk.said(ended)
        if isinstance(ended, CellblockError):
            return cells.Verdict("no cell runs any more", str(ended))
        seen, trail = cells.shown(ended.stdout)
        return cells.judge(seen, trail, "; ".join(told), model, alive=False)

    def _step(self, number: int) -> None:
        ended = talk.run(self._notebook, cells.step(number, SIZE), "wait", f"step-{number}")
        checkpoint = ended.outcome.checkpoint if isinstance(ended, Completed) else None
        if checkpoint is None or checkpoint.state != "saved":
            raise CellblockError(f"step {number} was not saved: {talk.short(ended)}")

    def _put_back(self) -> None:
        # With owners and modes, which a copy in Python would not keep.
        shutil.rmtree(self._store)
        subprocess.run(["cp", "-a", self.golden, self._store], check=True)


_WORDS: Final = {
    "as it was": "right",
    "mixture": "silently wrong",
    "unnamed loss": "silently wrong",
    "lost in part, by name": "lost by name",
    "older than the newest checkpoint": "fallen back, not told",
}
