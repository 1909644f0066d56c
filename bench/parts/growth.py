"""What more and more live idle notebooks with pandas cost: the latency of `1+1`, memory, and opening them."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any, Final

import cellblock
from bench import command
from bench.crowd import Kernels, open_in_cellblock, round_of, round_of_kernels, too_little_memory
from bench.figures import aligned, nearest_rank
from bench.memory import descendants, parent_of, processes_of, pss_bytes
from bench.parts.memory import CODE as WITH_PANDAS
from bench.parts.memory import RESULT as PANDAS_RESULT
from bench.parts.memory import pid_of
from bench.peers import BenchError
from bench.rows import CELLBLOCK, JUPYTER, Row, number
from bench.setup import Daemon, Setup

LEVELS: Final = (1, 10, 50, 100, 200)
QUICK_LEVELS: Final = (1, 5, 10)
MOST_KERNELS: Final = 50
"""Each takes a second of processor time and 80 MB."""
CODE: Final = "1+1"
RESULT: Final = "2"
SPARES_SECONDS: Final = 20.0
"""So long a level waits for spares; the figures of one without them are still figures."""
_FIRST_BYTES: Final = 120e6
"""What one takes while nobody has measured it."""


@dataclass(slots=True)
class Level:
    """One engine with so many live notebooks."""

    engine: str
    live: int
    open_seconds: float
    """From nothing to so many, as many at a time as there are processors."""
    total_bytes: int | None
    """PSS of everything that the engine runs; None where we may not read it."""
    milliseconds: list[list[float]] = field(default_factory=list)
    """Of `1+1`, for each round: one run in each notebook, one notebook after another."""

    @property
    def every(self) -> list[float]:
        """All runs."""
        return [value for found in self.milliseconds for value in found]

    @property
    def worst_notebook_p99(self) -> float:
        """Of the notebook where it is highest."""
        notebooks = zip(*self.milliseconds, strict=True)
        return max(nearest_rank(values, 0.99) for values in notebooks)

    def as_json(self) -> dict[str, Any]:
        """Without the single runs, which are many."""
        return {
            "engine": self.engine,
            "live": self.live,
            "open_seconds": round(self.open_seconds, 3),
            "total_pss_bytes": self.total_bytes,
            "round_trips": len(self.every),
            "p50_ms": round(statistics.median(self.every), 4),
            "p90_ms": round(nearest_rank(self.every, 0.9), 4),
            "p99_ms": round(nearest_rank(self.every, 0.99), 4),
            "max_ms": round(max(self.every), 4),
            "worst_notebook_p99_ms": round(self.worst_notebook_p99, 4),
        }


def measure(setup: Setup) -> tuple[list[Row], list[Level]]:
    """The row of the highest level, and all levels; an engine that fails at one has none above it."""
    levels: list[Level] = []
    steps = [live for live in (QUICK_LEVELS if setup.quick else LEVELS) if live <= setup.crowd]
    absent: dict[str, str] = {}
    with setup.daemon() as daemon, Kernels() as kernels:
        seconds = dict.fromkeys((CELLBLOCK, JUPYTER), 0.0)
        have = dict.fromkeys((CELLBLOCK, JUPYTER), 0)
        for place, live in enumerate(steps):
            command.progress("live notebooks", place, len(steps))
            at_level: dict[str, Level] = {}
            engines = (CELLBLOCK, JUPYTER)
            for engine in engines if place % 2 == 0 else reversed(engines):
                if engine in absent or (engine == JUPYTER and live > MOST_KERNELS):
                    continue
                try:
                    seconds[engine] += _open(daemon, kernels, levels, engine, have[engine], live)
                    have[engine] = live
                    at_level[engine] = Level(engine, live, seconds[engine], None)
                except (BenchError, cellblock.CellblockError) as error:
                    absent[engine] = f"{live} live: {error}"
            try:
                daemon.settle(patience_seconds=SPARES_SECONDS)
            except BenchError as error:
                absent[f"spares, {live} live"] = str(error)
            _measure(setup, daemon, [_name(number) for number in range(have[CELLBLOCK])], kernels, at_level)
            levels += at_level.values()
    row = _row(levels)
    row.absent |= absent
    return [row], levels


def _open(daemon: Daemon, kernels: Kernels, levels: list[Level], engine: str, have: int, live: int) -> float:
    """So many more; the seconds that it took."""
    if problem := too_little_memory(live - have, _each_bytes(levels, engine)):
        raise BenchError(problem)
    if engine == JUPYTER:
        return max(kernels.grow(live - have, WITH_PANDAS, PANDAS_RESULT))
    names = [_name(place) for place in range(have, live)]
    return max(open_in_cellblock(daemon.supervisor.socket_path, None, names, WITH_PANDAS, PANDAS_RESULT))


def _name(place: int) -> str:
    return f"live-{place}"


def _measure(
    setup: Setup, daemon: Daemon, names: list[str], kernels: Kernels, at_level: dict[str, Level]
) -> None:
    notebooks = [daemon.client.open(name) for name in names]
    if ours := at_level.get(CELLBLOCK):
        # The anchor has all of them, and the zygotes and spares too.
        shim = processes_of(notebooks[0])[0]
        everything = [daemon.supervisor.pid, *descendants(parent_of(shim))]
        ours.total_bytes = _pss_or_none(list(dict.fromkeys(everything)))
    if theirs := at_level.get(JUPYTER):
        pids = [pid for kernel in kernels.all for pid in descendants(pid_of(kernel))]
        theirs.total_bytes = _pss_or_none(pids)
    # At least so many runs in each notebook, and so many in all.
    each, total = setup.rounds(100, 10), setup.rounds(1000, 100)
    ours_rounds = max(each, math.ceil(total / max(1, len(names))))
    theirs_rounds = max(each // 10, math.ceil(total / 5 / max(1, len(kernels.all))))
    for place in range(max(ours_rounds, theirs_rounds)):
        first = place % 2 == 0
        if ours and first and place < ours_rounds:
            ours.milliseconds.append(round_of(notebooks, CODE, RESULT))
        if theirs and place < theirs_rounds:
            theirs.milliseconds.append(round_of_kernels(kernels.all, CODE, RESULT))
        if ours and not first and place < ours_rounds:
            ours.milliseconds.append(round_of(notebooks, CODE, RESULT))


def _pss_or_none(pids: list[int]) -> int | None:
    try:
        return pss_bytes(pids)
    except PermissionError:
        return None


def _each_bytes(levels: list[Level], engine: str) -> float:
    measured = [level for level in levels if level.engine == engine and level.total_bytes and level.live > 1]
    if not measured:
        return _FIRST_BYTES
    return (measured[-1].total_bytes or 0) / measured[-1].live


def _row(levels: list[Level]) -> Row:
    """Each engine where it has most."""
    most = {level.engine: level for level in levels}
    if CELLBLOCK not in most:
        raise BenchError("not one notebook could be opened")
    row = Row("growth", f"1+1 with {most[CELLBLOCK].live} live notebooks")
    for engine, level in most.items():
        same = level.live == most[CELLBLOCK].live
        name = engine if same else f"{engine}, {level.live} of them"
        row.values(name, "cellblock" if engine == CELLBLOCK else "peer").extend(level.every)
    return row


def table(levels: list[Level]) -> str:
    """For people."""
    lines: list[tuple[str, ...]] = [
        ("live", "open s", "1+1 p50 ms", "p99 ms", "worst's p99", "total MB", "MB each", "engine")
    ]
    for level in sorted(levels, key=lambda level: (level.engine, level.live)):
        megabytes = None if level.total_bytes is None else level.total_bytes / 1e6
        lines.append(
            (
                str(level.live),
                number(level.open_seconds),
                number(statistics.median(level.every)),
                number(nearest_rank(level.every, 0.99)),
                number(level.worst_notebook_p99),
                "–" if megabytes is None else number(megabytes),
                "–" if megabytes is None else number(megabytes / level.live),
                level.engine,
            )
        )
    return aligned(lines, words=(7,))
