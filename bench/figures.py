"""Samples, what is said about them, and the tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Samples:
    """Times of one engine in one row."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Half of the runs were faster."""
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        """The nearest rank: of fewer than 100 runs it is the slowest one."""
        return sorted(self.seconds)[math.ceil(0.99 * len(self.seconds)) - 1]


@dataclass(slots=True)
class Row:
    """One thing measured on cellblock and on its peer, in turns."""

    name: str
    peer_name: str
    peer: Samples = field(default_factory=Samples)
    cellblock: Samples = field(default_factory=Samples)

    @property
    def ratio(self) -> float:
        """How many times faster cellblock's median is."""
        return self.peer.median / self.cellblock.median

    @property
    def p99_ratio(self) -> float:
        """The same of the slowest runs."""
        return self.peer.p99 / self.cellblock.p99

    def as_json(self) -> dict[str, Any]:
        """Everything, the single runs too."""
        return {
            "name": self.name,
            "peer": self.peer_name,
            "runs": len(self.peer.seconds),
            "ratio_median": self.ratio,
            "ratio_p99": self.p99_ratio,
            **{
                engine: {
                    "median_ms": 1e3 * samples.median,
                    "p99_ms": 1e3 * samples.p99,
                    "samples_ms": [round(1e3 * seconds, 4) for seconds in samples.seconds],
                }
                for engine, samples in (("peer_times", self.peer), ("cellblock_times", self.cellblock))
            },
        }


def table(rows: Sequence[Row]) -> str:
    """Times in milliseconds."""
    lines: list[tuple[str, ...]] = [
        ("milliseconds", "runs", "peer p50", "peer p99", "cellblock p50", "cellblock p99", "× p50", "× p99")
    ]
    for row in rows:
        times = (row.peer.median, row.peer.p99, row.cellblock.median, row.cellblock.p99)
        lines.append(
            (
                row.name,
                str(len(row.peer.seconds)),
                *(_milliseconds(seconds) for seconds in times),
                f"{row.ratio:.1f}",
                f"{row.p99_ratio:.1f}",
            )
        )
    return aligned(lines)


def aligned(lines: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell; the first is words, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"
