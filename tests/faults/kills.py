"""Kills at random moments of checkpoints, of every process that has a part in them, in all mixtures."""

from __future__ import annotations

import contextlib
import random
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, TypeVar

from cellblock import (
    Cancelled,
    CellblockError,
    Client,
    Completed,
    ConnectError,
    ConnectionLost,
    Execution,
    Notebook,
    Ok,
    RequestRefused,
    Timeout,
    UnknownExecution,
    UnknownNotebook,
    WorkerDied,
)
from cellblock._requests import Checkpointing

from . import cells, processes, talk
from .cells import Model
from .daemon import BOUND_SECONDS, Daemon
from .processes import Process
from .threads import together

T = TypeVar("T")

TARGETS: Final = ("worker", "init", "shim", "store", "snapshot", "cellblockd")

SIZES: Final = (1 << 12, 1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 20)
"""Numbers in each array of each notebook: from 32 KiB, which stays in the stream, to 8 MiB."""

_LONGEST_SECONDS: Final = 0.5

_TRIES: Final = 8


@dataclass(frozen=True)
class Fault:
    """What is killed, and when: parts of twice the time that a checkpoint takes."""

    targets: tuple[str, ...]
    delays: tuple[float, ...]
    when: Literal["wait", "background"]
    burst: int
    """Cells that are sent together; the checkpoint after the last one is meant."""
    restoring: str | None
    """What is killed again while the next worker loads."""

    @classmethod
    def draw(cls, choice: random.Random) -> Fault:
        """All that is decided for one round."""
        count = choice.choices((1, 2, 3), (6, 3, 1))[0]
        return cls(
            targets=tuple(choice.sample(TARGETS, count)),
            delays=tuple(choice.random() for _ in range(count)),
            when=choice.choice(("wait", "background")),
            burst=choice.choices((1, 2, 3), (7, 2, 1))[0],
            restoring=choice.choice(TARGETS[:4] + TARGETS[5:]) if choice.random() < 0.2 else None,
        )


@dataclass
class Counts:
    """What was done and seen; one for all notebooks."""

    checkpoints: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def broke(self, what: str) -> None:
        """An invariant does not hold."""
        with self.guard:
            self.broken.append(what)


class Subject:
    """One notebook, and what is known of it."""

    def __init__(self, daemon: Daemon, client: Client, number: int, seed: int, counts: Counts) -> None:
        self.name = f"kill{number}"
        self._daemon = daemon
        self._client = client
        self._profile = ("default", "warm")[number % 2]
        self._notebook: Notebook = client.open(self.name, self._profile)
        self._size = SIZES[number % len(SIZES)]
        self._choice = random.Random(f"{seed}/{number}")
        self._counts = counts
        self._model = Model()
        self._worker: Process | None = None
        self._shim: Process | None = None
        # Whether its worker was killed since the last look.
        self._hit = False
        self._took = [0.04]
        self._told: list[str] = []
        # The last things that happened, for who reads that something is broken.
        self._history: deque[str] = deque(maxlen=16)

    def run(self, rounds: int) -> None:
        """So many rounds: look, step, kill."""
        self._guarded(self._look, "the first look")
        for number in range(rounds):
            fault = Fault.draw(self._choice)
            self._guarded(partial(self._round, fault, number), str(fault))
        self._guarded(self._look, "the last look")

    def _guarded(self, act: Callable[[], None], name: str) -> None:
        """What is raised is told, and the next round comes."""
        try:
            act()
        except Exception as error:
            self._counts.broke(f"{self.name}, {name}: {type(error).__name__}: {error} {list(self._history)}")

    def delete(self) -> None:
        """Ends it, and removes what it has."""
        self._notebook.delete()

    def _round(self, fault: Fault, number: int) -> None:
        for _ in range(fault.burst):
            self._model.last += 1
        steps = range(self._model.last - fault.burst + 1, self._model.last + 1)
        self._history.append(str(fault))
        self._shim = self._sandbox().get("shim")
        begun = time.monotonic()
        waiting = []
        for step in steps:
            when = fault.when if step == steps[-1] else "background"
            waiting.append(self._begin(cells.step(step, self._size), when, f"step-{step}"))
            if step != steps[-1]:
                # Each is sent over a connection of its own, and only who is accepted has its place.
                with contextlib.suppress(CellblockError):
                    waiting[-1].wait_accepted(BOUND_SECONDS)
        self._kill(fault)
        for step, execution in zip(steps, waiting, strict=True):
            self._concluded(step, self._finish(execution))
        if self._model.acknowledged[-1:] == [self._model.last]:
            # What waited for another cellblockd says nothing about checkpoints.
            self._took.append(min(time.monotonic() - begun, _LONGEST_SECONDS))
        with self._counts.guard:
            self._counts.checkpoints += 1
            self._counts.outcomes[f"asked to {fault.when}"] += 1
        self._settle()
        if fault.restoring is not None:
            self._kill_restoring(fault.restoring, self._choice.random())
        self._look(f"round {number}, {fault}")

    def _kill(self, fault: Fault) -> None:
        """Each in its moment, which is counted from the last one's."""
        took = statistics.median(self._took[-9:])
        for target, delay in zip(fault.targets, fault.delays, strict=True):
            if target in ("store", "snapshot"):
                processes.within(2 * took, partial(self._has, target))
                time.sleep(delay * took)
            else:
                time.sleep(2 * delay * took)
            self._kill_one(target)

    def _kill_one(self, target: str) -> None:
        if target == "cellblockd":
            hit = self._daemon.kill_and_restart()
        else:
            process = self._sandbox().get(target)
            hit = process is not None and process.kill()
        self._hit |= hit and target in ("worker", "init", "shim")
        self._history.append(f"{'killed' if hit else 'missed'} {target}")
        with self._counts.guard:
            (self._counts.kills if hit else self._counts.missed)[target] += 1

    def _kill_restoring(self, target: str, delay: float) -> None:
        """A second fault while the worker that comes after the first is made, and loads."""
        if (worker := self._sandbox().get("worker")) is not None:
            self._hit |= worker.kill()
        execution = self._begin("pass", "none")
        processes.within(0.3, partial(self._has, "worker"))
        time.sleep(delay * 0.1)
        self._kill_one(target)
        ended = self._finish(execution)
        self._history.append(f"pass: {talk.short(ended)}")
        self._hear(ended)

    def _begin(self, code: str, checkpoint: Checkpointing, execution_id: str | None = None) -> Execution:
        """Sends a cell."""
        return _patiently(
            lambda: self._notebook.execute(
                code,
                execution_id=execution_id,
                checkpoint=checkpoint,
                stop_on_error=False,
                timeout=BOUND_SECONDS,
            )
        )

    def _finish(self, execution: Execution) -> Completed | CellblockError:
        begun = time.monotonic()
        ended = talk.finish(execution)
        with self._counts.guard:
            self._counts.slowest_seconds = max(self._counts.slowest_seconds, time.monotonic() - begun)
        return ended

    def _has(self, target: str) -> bool:
        return target in self._sandbox()

    def _sandbox(self) -> dict[str, Process]:
        return self._daemon.sandbox(self.name)

    def _concluded(self, step: int, ended: Completed | CellblockError) -> None:
        """What the end of a step says."""
        self._hear(ended)
        self._history.append(f"step {step}: {talk.short(ended)}")
        lives = self._shim is not None and self._shim.lives()
        if isinstance(ended, UnknownExecution) and lives:
            self._counts.broke(
                f"{self.name}: step {step} is unknown, but its shim lives: {list(self._history)}"
            )
        kind = type(ended).__name__ if isinstance(ended, CellblockError) else ended.outcome.kind
        with self._counts.guard:
            self._counts.outcomes[kind] += 1
        if isinstance(ended, CellblockError) or not isinstance(ended.outcome.end, Ok):
            return
        self._verdict(ended, f"step {step}")
        self._model.live = step
        checkpoint = ended.outcome.checkpoint
        if checkpoint is None:
            self._counts.broke(f"{self.name}: no word on the checkpoint of step {step}")
            return
        with self._counts.guard:
            self._counts.outcomes[f"checkpoint {checkpoint.state}"] += 1
        if checkpoint.state == "saved":
            self._model.acknowledge(step)

    def _settle(self) -> None:
        """Waits until nobody writes, and sees which checkpoint is the newest."""
        if not processes.within(BOUND_SECONDS, lambda: not self._has("store")):
            self._counts.broke(f"{self.name}: a store process does not end")
        self._model.find_saved(talk.newest(self._daemon.store(self.name)))

    def _look(self, after: str = "") -> None:
        """Looks until something can be seen: what a fault before has left is met first."""
        for _ in range(_TRIES):
            ended = self._finish(self._begin(cells.LOOK, "none"))
            self._history.append(f"look: {talk.short(ended)}")
            self._hear(ended)
            if isinstance(ended, Completed) and isinstance(ended.outcome.end, Ok):
                self._verdict(ended, after)
                self._hit = False
                return
        if not any("restart the notebook" in text for text in self._told):
            self._counts.broke(f"{self.name}: no cell runs any more after {after}: {list(self._history)}")
            return
        with self._counts.guard:
            self._counts.verdicts["lost by name, with the way out"] += 1
        _patiently(self._notebook.restart)
        self._model.begin_anew()

    def _hear(self, ended: Completed | CellblockError) -> None:
        """Keeps what was said, for who looks next."""
        if isinstance(ended, Completed):
            self._told += talk.said(ended)
            if not isinstance(ended.outcome.end, Ok | WorkerDied | Cancelled):
                self._counts.broke(f"{self.name}: a cell ends so: {talk.short(ended)}")
        elif isinstance(ended, UnknownNotebook):
            # It went together with the cellblockd that knew it.
            self._told.append(str(ended))
            self._notebook = _patiently(lambda: self._client.open(self.name, self._profile))
        elif isinstance(ended, RequestRefused):
            self._told.append(str(ended))
        elif isinstance(ended, Timeout):
            self._counts.broke(f"{self.name}: hangs: {ended}")
        else:
            self._counts.broke(f"{self.name}: {type(ended).__name__}: {ended}")

    def _verdict(self, ended: Completed, after: str) -> None:
        seen, trail = cells.shown(ended.stdout)
        worker = self._sandbox().get("worker")
        alive = self._worker is not None and worker == self._worker
        if self._worker is not None and not alive and not self._hit:
            self._counts.broke(
                f"{self.name}: its worker is gone, and nobody killed it: {list(self._history)}"
            )
        told = "; ".join(self._told)
        verdict = cells.judge(seen, trail, told, self._model, alive=alive)
        with self._counts.guard:
            self._counts.verdicts[verdict.kind] += 1
        if not verdict.holds:
            self._counts.broke(
                f"{self.name} after {after}: {verdict.kind}: {verdict.detail} {list(self._history)} "
                f"{self._daemon.log_of(self.name)}"
            )
        if verdict.kind == "lost by name":
            self._model.begin_anew()
        elif verdict.kind in ("mixture", "ran twice", "unnamed loss"):
            # Told once; what comes next is about the next fault.
            _patiently(self._notebook.restart)
            self._model.begin_anew()
            seen = {}
        here = [what for what in seen.values() if isinstance(what, int)]
        self._model.live = here[0] if here else 0
        self._worker = worker
        self._told.clear()


def _patiently(ask: Callable[[], T]) -> T:
    """Asks also while cellblockd is just being started again."""
    until = time.monotonic() + BOUND_SECONDS
    while True:
        try:
            return ask()
        except (ConnectError, ConnectionLost):
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def run(daemon: Daemon, checkpoints: int, seed: int) -> Counts:
    """Takes so many checkpoints, in six notebooks at once, with a fault in each."""
    counts = Counts()
    with daemon.client() as client:
        subjects = [Subject(daemon, client, number, seed, counts) for number in range(len(SIZES))]
        shares = [len(range(number, checkpoints, len(SIZES))) for number in range(len(SIZES))]
        together([partial(subject.run, share) for subject, share in zip(subjects, shares, strict=True)])
        for subject in subjects:
            subject.delete()
    return counts
