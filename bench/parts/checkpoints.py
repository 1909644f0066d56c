"""What saving and having back a notebook's variables costs: beside dill, cloudpickle and kishu.

A user of the peers waits while they save; cellblock saves beside his next cell. So of cellblock a pause is
what a cell and the next one take longer together, and how much longer a cell takes that rewrites everything
just then stands in a column of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from bench import beside_saving, command, peer_env
from bench.checkpoint_states import State, states
from bench.checkpoint_systems import (
    PROFILE,
    PROFILES,
    Measured,
    Ours,
    measure_fragmented,
    measure_ours,
    measure_peer,
)
from bench.checkpoint_table import Column, new_row
from bench.peers import BenchError, run_in_cellblock
from bench.rows import CELLBLOCK, Goal, Role, Row
from bench.setup import Daemon, Setup

DILL: Final = "dill"
KISHU: Final = "kishu"
PEERS: Final = (DILL, "cloudpickle", KISHU)
"""The first is what ratios refer to."""
_PAUSE_MS: Final = 10
_CHANGE_MB: Final = 0.5
"""A chunk of 256 KiB, and the lists in which its hash stands."""
_FRAGMENTED_MS: Final = 60
"""For each gigabyte."""
_TIMES_FASTER: Final = 50
_NO_WORSE: Final = (
    Column.PAUSE,
    Column.PAUSE_CHANGE,
    Column.BYTES,
    Column.BYTES_SAME,
    Column.BYTES_CHANGE,
)
_FLOOR_RUNS: Final = 5
_NOTHING: Final = "cellblock, nothing to load"
_FRAGMENTED: Final = "100 times changed and saved"


def measure(setup: Setup) -> list[Row]:
    """The rows: of the table, of an array in pieces, and of what goes on beside a save."""
    every = states(setup.quick)
    python = peer_env.interpreter(setup.python)
    with setup.daemon(PROFILES) as daemon:
        # A profile is warmed when it is first used.
        first = daemon.client.open("first", PROFILE)
        run_in_cellblock(first, "1+1", "2")
        first.delete()
        daemon.settle(PROFILE)
        rows: list[Row] = []
        for place, state in enumerate(every):
            command.progress("checkpoints", place, len(every))
            rows += _measured(setup, daemon, python, state)
        largest = [state for state in every if state.array_bytes][-1]
        _without(daemon, [row for row in rows if row.cell == (largest.name, Column.RESTORE.name)])
        judge(rows, largest)
        rows.append(_fragmented(daemon, largest, rows))
        return rows + beside_saving.measure(setup, daemon, largest)


def _measured(setup: Setup, daemon: Daemon, python: Path, state: State) -> list[Row]:
    turns: list[tuple[str, Role, Callable[[], Measured]]] = [
        (CELLBLOCK, "cellblock", partial(measure_ours, daemon, state))
    ]
    for peer in PEERS:
        turns.append((peer, "peer", partial(measure_peer, python, peer, state)))
    rows = {column: new_row(state.name, column) for column in Column}
    for _ in range(setup.rounds(state.rounds, 1)):
        for engine, role, run in turns:
            try:
                found = run()
            except BenchError as error:
                if engine == CELLBLOCK:
                    raise
                # A peer that cannot save or load a state has no figures for it.
                for row in rows.values():
                    row.absent[engine] = str(error)
                continue
            for column, values in found.items():
                rows[column].values(engine, role).extend(values)
        turns.reverse()
    return [row for row in rows.values() if row.engines]


def judge(rows: list[Row], largest: State) -> None:
    """Sets the goals, each where it is hardest to reach."""

    def of(column: Column) -> list[Row]:
        return [row for row in rows if row.cell and row.cell[1] == column.name]

    def at_largest(column: Column) -> Row:
        return next(row for row in of(column) if row.cell == (largest.name, column.name))

    def worst(column: Column) -> Row:
        return max(of(column), key=lambda row: row.engines[CELLBLOCK].worst)

    at_largest(Column.PAUSE).must(CELLBLOCK, "p50", _PAUSE_MS)
    for column in (Column.RESTORE, Column.RESTORE_WHOLE):
        at_largest(column).must_be_times_better(CELLBLOCK, _TIMES_FASTER)
    worst(Column.BYTES_CHANGE).must(CELLBLOCK, "p50", _CHANGE_MB)
    worst(Column.WRONG).must(CELLBLOCK, "worst", 0)
    for column in _NO_WORSE:
        both = [row for row in of(column) if KISHU in row.engines]
        closest = max(both, key=lambda row: row.engines[CELLBLOCK].p50 / row.engines[KISHU].p50, default=None)
        if closest:
            closest.must_be_near(CELLBLOCK, KISHU, 1)


def _without(daemon: Daemon, rows: list[Row]) -> None:
    """The floor: what the same takes of a notebook that has nothing saved."""
    with Ours(daemon) as ours:
        for _ in range(_FLOOR_RUNS):
            milliseconds, _ = ours.restore("1+1")
            for row in rows:
                row.values(_NOTHING, "floor").append(milliseconds)


def _fragmented(daemon: Daemon, state: State, rows: list[Row]) -> Row:
    """Beside dill's figures for the same array, to which it makes no difference."""
    row = new_row(f"{state.name}, {_FRAGMENTED}", Column.RESTORE)
    whole = next(row for row in rows if row.cell == (state.name, Column.RESTORE.name))
    if DILL in whole.engines:
        row.values(DILL, "peer").extend(whole.engines[DILL].every)
    times = measure_fragmented(daemon, state)
    row.values(CELLBLOCK, "cellblock").extend(times)
    what = f"{row.name}, {CELLBLOCK}, p50 in ms for each GB"
    row.goals.append(Goal(what, row.engines[CELLBLOCK].p50 / (state.array_bytes / 1e9), _FRAGMENTED_MS))
    return row
