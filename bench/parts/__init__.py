"""The benchmark's parts. Each can be run by itself, starts what it needs and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bench.parts import (
    burst,
    checkpoints,
    growth,
    limits,
    memory,
    rate,
    round_trip,
    sandbox,
    start,
    throughput,
)
from bench.parts.growth import Level
from bench.rows import Row
from bench.setup import Setup


@dataclass(slots=True)
class Found:
    """What was measured."""

    rows: list[Row] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    """Of growth."""
    failed: dict[str, str] = field(default_factory=dict)
    """Parts that ended with an error, and with which."""


def _rows(measure: Callable[[Setup], list[Row]]) -> Callable[[Setup, Found], None]:
    return lambda setup, found: found.rows.extend(measure(setup))


def _growth(setup: Setup, found: Found) -> None:
    rows, levels = growth.measure(setup)
    found.rows += rows
    found.levels += levels


PARTS: Final[dict[str, Callable[[Setup, Found], None]]] = {
    "start": _rows(start.measure),
    "round-trip": _rows(round_trip.measure),
    "throughput": _rows(throughput.measure),
    "memory": _rows(memory.measure),
    "sandbox": _rows(sandbox.measure),
    "limits": _rows(limits.measure),
    "rate": _rows(rate.measure),
    "burst": _rows(burst.measure),
    "growth": _growth,
    "checkpoints": _rows(checkpoints.measure),
}
"""In the order in which they are run."""
