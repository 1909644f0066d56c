"""Samples, what is said about them, and the tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(slots=True)
class Samples:
    """Times of one engine in one row."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Half of the runs were faster."""
        return statistics.median(self.seconds)

    @property
    def p90(self) -> float:
        """Nine of ten runs were faster, or as fast."""
        return nearest_rank(self.seconds, 0.90)

    @property
    def p99(self) -> float:
        """The nearest rank: of fewer than 100 runs it is the slowest one."""
        return nearest_rank(self.seconds, 0.99)

    @property
    def longest(self) -> float:
        """The slowest run."""
        return max(self.seconds)

    def as_json(self) -> dict[str, Any]:
        """Every single run, and what is said about them."""
        return {
            "runs": len(self.seconds),
            "median_ms": 1e3 * self.median,
            "p90_ms": 1e3 * self.p90,
            "p99_ms": 1e3 * self.p99,
            "max_ms": 1e3 * self.longest,
            "samples_ms": [round(1e3 * seconds, 4) for seconds in self.seconds],
        }


@dataclass(slots=True)
class Spread:
    """One thing measured on several engines in turns, where how far the runs spread matters."""

    name: str
    engines: dict[str, Samples]
    """In the order in which they are shown."""

    @classmethod
    def of(cls, name: str, *engines: str) -> Self:
        """Without samples."""
        return cls(name, {engine: Samples() for engine in engines})

    def as_json(self) -> dict[str, Any]:
        """Everything, the single runs too."""
        return {"name": self.name, **{name: samples.as_json() for name, samples in self.engines.items()}}


def spreads(rows: Sequence[Spread], base: str) -> str:
    """Times in milliseconds, a line for each engine; `×` is how many times as long as `base` it takes."""
    lines: list[tuple[str, ...]] = [
        ("milliseconds", "runs", "p50", "p90", "p99", "max", "× p50", "× p99", "engine")
    ]
    for row in rows:
        reference = row.engines[base]
        for place, (engine, samples) in enumerate(row.engines.items()):
            times = (samples.median, samples.p90, samples.p99, samples.longest)
            lines.append(
                (
                    row.name if place == 0 else "",
                    str(len(samples.seconds)),
                    *(milliseconds(seconds) for seconds in times),
                    f"{samples.median / reference.median:.1f}",
                    f"{samples.p99 / reference.p99:.1f}",
                    engine,
                )
            )
    return aligned(lines)


def nearest_rank(values: Sequence[float], share: float, *, more_is_better: bool = False) -> float:
    """What this share of the runs reached or bettered; always a value that was measured."""
    return sorted(values, reverse=more_is_better)[math.ceil(share * len(values)) - 1]


def aligned(lines: Sequence[tuple[str, ...]], *, words: Collection[int] = (0,)) -> str:
    """Columns as wide as their widest cell; those at `words` are words, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def milliseconds(seconds: float) -> str:
    """As many places as say something."""
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"
