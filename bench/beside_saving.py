"""What saving everything, again and again, does to the same notebook, to 20 beside it, and to a limit."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Final

import cellblock
from bench.checkpoint_states import State
from bench.checkpoint_systems import PROFILE, Ours
from bench.peers import BenchError, run_in_cellblock
from bench.rows import Goal, Role, Row
from bench.setup import Daemon, Setup

OTHERS: Final = 20
LIMIT_MS: Final = 100
SAVING: Final = "cellblock, while it saves"
UNDISTURBED: Final = "cellblock, undisturbed"
_ROLES: Final[dict[str, Role]] = {SAVING: "cellblock", UNDISTURBED: "floor"}
_PART: Final = "checkpoints"
_TIMES: Final = 2.0
_OVERSHOOT_MS: Final = 20
_MOST_SECONDS: Final = 1.5
"""Of one save, or of one turn without."""
_LEAST: Final = 20
"""Round trips of each in a turn, where a save is over before."""


def measure(setup: Setup, daemon: Daemon, state: State) -> list[Row]:
    """The rows; saves and undisturbed times take turns."""
    same = Row(_PART, f"1+1 of a notebook with a {state.name}")
    other = Row(_PART, f"1+1 of {OTHERS} other notebooks beside it")
    limit = Row(_PART, f"overshoot of a time limit of a notebook with a {state.name}")
    count = min(OTHERS, setup.crowd)
    with Ours(daemon) as ours:
        others = [daemon.client.open(f"beside-{place}", PROFILE) for place in range(count)]
        for notebook in others:
            run_in_cellblock(notebook, "1+1", "2")
        for cell in state.cells:
            ours.run(cell)
        ours.save()
        turns = [UNDISTURBED, SAVING]
        for _ in range(setup.rounds(2, 1)):
            for engine in turns:
                _round_trips(ours, others, state, engine, same, other)
            for engine in turns:
                _overshoots(ours, state, engine, limit, setup.rounds(10, 1))
            turns.reverse()
        for notebook in others:
            notebook.delete()
    for row in (same, other):
        ratio = row.engines[SAVING].p99 / row.engines[UNDISTURBED].p99
        row.goals.append(Goal(f"{row.name}, p99, × undisturbed", ratio, _TIMES))
    limit.must(SAVING, "p99", _OVERSHOOT_MS)
    return [same, other, limit]


def _round_trips(
    ours: Ours, others: list[cellblock.Notebook], state: State, engine: str, same: Row, other: Row
) -> None:
    """One of its own, one of another, and so on, as long as it saves."""
    saving = _begin(ours, state, engine)
    beside = itertools.cycle(others)
    for number in itertools.count():
        if number >= _LEAST and saving.is_over():
            break
        for row, notebook in ((same, ours.notebook), (other, next(beside))):
            began = time.perf_counter()
            completed = notebook.execute("1+1", checkpoint="none").result()
            milliseconds = 1e3 * (time.perf_counter() - began)
            if not completed.outcome.ok:
                raise BenchError(f"1+1 ended with {completed.outcome}")
            row.values(engine, _ROLES[engine]).append(milliseconds)
    ours.save()


def _overshoots(ours: Ours, state: State, engine: str, row: Row, most: int) -> None:
    saving = _begin(ours, state, engine)
    for number in range(most):
        if number > 0 and saving.is_over():
            break
        began = time.perf_counter()
        execution = ours.notebook.execute("while True: pass", wall_seconds=LIMIT_MS / 1e3, checkpoint="none")
        outcome = execution.result().outcome
        milliseconds = 1e3 * (time.perf_counter() - began)
        if not isinstance(outcome.end, cellblock.TimedOut) or outcome.lost is not None:
            raise BenchError(f"a busy loop ended with {outcome}")
        row.values(engine, _ROLES[engine]).append(milliseconds - LIMIT_MS)
    ours.save()


class Saving:
    """A save that has begun, seen by the file that tells which is the newest; or for comparison none."""

    def __init__(self, head: Path | None) -> None:
        self._head = head
        self._before = _identity(head)
        self._until = time.monotonic() + _MOST_SECONDS

    def is_over(self) -> bool:
        """Whether it is published, or long enough has been measured."""
        changed = self._head is not None and _identity(self._head) != self._before
        return changed or time.monotonic() > self._until


def _identity(head: Path | None) -> int:
    return 0 if head is None else head.stat().st_ino


def _begin(ours: Ours, state: State, engine: str) -> Saving:
    """All of it is rewritten, and then saved or not."""
    assert state.rewrite is not None
    ours.run(state.rewrite)
    saving = Saving(ours.folder / "HEAD" if engine == SAVING else None)
    if engine == SAVING:
        ours.run("pass", "background")
    return saving
