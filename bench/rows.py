"""What a row of the benchmark holds: values of several engines in one unit, ratios to the peer, goals."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from bench import command
from bench.figures import aligned, nearest_rank

Role: TypeAlias = Literal["cellblock", "peer", "floor"]
Figure: TypeAlias = Literal["p50", "p90", "p99", "worst"]

CELLBLOCK: Final = "cellblock"
JUPYTER: Final = "jupyter_client + ipykernel"
BWRAP: Final = "bwrap + python"


@dataclass(slots=True)
class Values:
    """Of one engine in one row."""

    role: Role
    more_is_better: bool
    every: list[float] = field(default_factory=list)
    """In the order in which they were measured."""

    @property
    def p50(self) -> float:
        """Half of the runs were better."""
        return statistics.median(self.every)

    @property
    def p90(self) -> float:
        """Nine of ten runs were better, or as good."""
        return nearest_rank(self.every, 0.90, more_is_better=self.more_is_better)

    @property
    def p99(self) -> float:
        """The nearest rank: of fewer than 100 runs it is the worst one."""
        return nearest_rank(self.every, 0.99, more_is_better=self.more_is_better)

    @property
    def worst(self) -> float:
        """The slowest run, or the largest."""
        return nearest_rank(self.every, 1.0, more_is_better=self.more_is_better)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure must reach."""

    what: str
    found: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.found >= self.limit if self.at_least else self.found <= self.limit

    def __str__(self) -> str:
        word = "met" if self.met else "MISSED"
        bound = "at least" if self.at_least else "at most"
        return f"{word}: {self.what}: {number(self.found)}, {bound} {number(self.limit)} wanted"


@dataclass(slots=True)
class Row:
    """One thing, measured on cellblock, on its peers and on a floor, in turns."""

    part: str
    name: str
    unit: str = "ms"
    more_is_better: bool = False
    engines: dict[str, Values] = field(default_factory=dict)
    """In the order in which they are shown."""
    absent: dict[str, str] = field(default_factory=dict)
    """Engines that could not be measured, and why."""
    goals: list[Goal] = field(default_factory=list)
    cell: tuple[str, str] | None = None
    """Line and column in a table of its own, where it is shown instead."""

    def values(self, engine: str, role: Role) -> list[float]:
        """Where this engine's values go."""
        return self.engines.setdefault(engine, Values(role, self.more_is_better)).every

    @property
    def peer(self) -> Values | None:
        """What ratios refer to: the first peer that there is."""
        return next((values for values in self.engines.values() if values.role == "peer"), None)

    def times_better(self, engine: str, figure: Figure = "p50") -> float | None:
        """How many times better than the peer's an engine's figure is; None without a peer."""
        if (peer := self.peer) is None:
            return None
        ours, theirs = getattr(self.engines[engine], figure), getattr(peer, figure)
        above, below = (ours, theirs) if self.more_is_better else (theirs, ours)
        # Memory of which there is none, or an answer before the limit: no number of times says so.
        return above / below if above > 0 and below > 0 else None

    def must(self, engine: str, figure: Figure, limit: float) -> None:
        """Sets a goal in the row's own unit."""
        if engine in self.engines:
            found = getattr(self.engines[engine], figure)
            what = f"{self.name}, {engine}, {figure} in {self.unit}"
            self.goals.append(Goal(what, found, limit, at_least=self.more_is_better))

    def must_be_times_better(self, engine: str, times: float) -> None:
        """Sets a goal against the peer."""
        if engine in self.engines and (found := self.times_better(engine)) is not None:
            self.goals.append(Goal(f"{self.name}, {engine}, × peer", found, times, at_least=True))

    def must_be_steady(self, engine: str, times: float) -> None:
        """Sets a goal for how far p99 lies above p50."""
        if engine in self.engines:
            values = self.engines[engine]
            self.goals.append(Goal(f"{self.name}, {engine}, p99 / p50", values.p99 / values.p50, times))

    def must_be_near(self, engine: str, floor: str, times: float) -> None:
        """Sets a goal against a floor, for medians."""
        if engine in self.engines and floor in self.engines:
            found = self.engines[engine].p50 / self.engines[floor].p50
            self.goals.append(Goal(f"{self.name}, {engine}, × {floor}", found, times))

    def as_json(self) -> dict[str, Any]:
        """Everything, the single runs too."""
        return {
            "part": self.part,
            "name": self.name,
            "cell": self.cell,
            "unit": self.unit,
            "more_is_better": self.more_is_better,
            "engines": [
                {
                    "engine": engine,
                    "role": values.role,
                    "runs": len(values.every),
                    "p50": round(values.p50, 4),
                    "p90": round(values.p90, 4),
                    "p99": round(values.p99, 4),
                    "worst": round(values.worst, 4),
                    "times_better_p50": rounded(self.times_better(engine)),
                    "times_better_p99": rounded(self.times_better(engine, "p99")),
                    "samples": [round(value, 4) for value in values.every],
                }
                for engine, values in self.engines.items()
            ],
            "absent": [{"engine": engine, "why": why} for engine, why in self.absent.items()],
            "goals": [
                {
                    "what": goal.what,
                    "found": round(goal.found, 4),
                    "limit": goal.limit,
                    "at_least": goal.at_least,
                    "met": goal.met,
                }
                for goal in self.goals
            ],
        }


@dataclass(frozen=True, slots=True)
class Turn:
    """An engine's part in a round."""

    engine: str
    role: Role
    run: Callable[[], float]
    """One run, and its value in the row's unit."""
    times: int = 1
    """Runs in a round: what is fast can have more."""


def take_turns(row: Row, turns: Sequence[Turn], rounds: int, warm_ups: int = 1) -> Row:
    """Measures round by round, each the other way about, so that whatever the machine does hits all."""
    order = list(turns)
    for turn in order:
        row.values(turn.engine, turn.role)
    for place in range(-warm_ups, rounds):
        command.progress(row.name, max(0, place), rounds)
        for turn in order:
            for _ in range(turn.times if place >= 0 else 1):
                value = turn.run()
                if place >= 0:
                    row.values(turn.engine, turn.role).append(value)
        order.reverse()
    return row


def table(rows: Sequence[Row]) -> str:
    """For people: a line for each engine; `×` is how many times better than the peer it is."""
    lines: list[tuple[str, ...]] = [
        ("what", "unit", "runs", "p50", "p90", "p99", "× p50", "× p99", "", "engine")
    ]
    for row in rows:
        if row.cell:
            continue
        for place, (engine, values) in enumerate(row.engines.items()):
            lines.append(
                (
                    row.name if place == 0 else "",
                    row.unit,
                    str(len(values.every)),
                    number(values.p50),
                    number(values.p90),
                    number(values.p99),
                    _times(row.times_better(engine)),
                    _times(row.times_better(engine, "p99")),
                    "" if values.role == "cellblock" else values.role,
                    engine,
                )
            )
    return aligned(lines, words=(0, 1, 8, 9))


def absences(rows: Sequence[Row]) -> list[str]:
    """What is missing in the table, and why."""
    found = [
        f"not measured: {row.cell[0] if row.cell else row.name}, {engine}: {why}"
        for row in rows
        for engine, why in row.absent.items()
    ]
    # The columns of one line have the same reason.
    return list(dict.fromkeys(found))


def number(value: float) -> str:
    """As many places as say something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def rounded(value: float | None) -> float | None:
    """For JSON."""
    return None if value is None else round(value, 4)


def _times(value: float | None) -> str:
    return "–" if value is None else number(value)
