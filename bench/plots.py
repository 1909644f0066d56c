"""Which charts the benchmark draws: a distribution for each row, and growth."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.figures import nearest_rank
from bench.parts.growth import Level
from bench.rows import CELLBLOCK, Row, number
from bench.svg import COLOURS, Axis, Series, chart

_PERCENT: Final = Axis("% of the runs", 0, 100, ticks=[0, 10, 25, 50, 75, 90, 100])
_LEAST_RUNS: Final = 2
"""One run has no distribution."""


def write(folder: Path, rows: Sequence[Row], levels: Sequence[Level]) -> list[Path]:
    """All charts, as NAME.svg; what they are called."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = (row for row in rows if row.cell is None)
    found = {file_name(row): chart for row in shown if (chart := distribution(row)) is not None}
    found |= growth(levels)
    for name, text in found.items():
        (folder / name).write_text(text)
    return [folder / name for name in found]


def file_name(row: Row) -> str:
    """Of a row's chart."""
    words = re.sub(r"[^a-z0-9]+", "-", row.name.lower().replace("1+1", "1-plus-1"))
    return f"{words.strip('-')}.svg"


def distribution(row: Row) -> str | None:
    """How many of the runs were at or below a value, for each engine."""
    shown = {name: values for name, values in row.engines.items() if len(values.every) >= _LEAST_RUNS}
    every = [value for values in shown.values() for value in values.every]
    if not every:
        return None
    wide = min(every) > 0 and max(every) / min(every) > 5
    axis = Axis.of(row.unit, every, logarithmic=wide)
    # Floors are no competitors: they are drawn thinner to the eye.
    dashes = {"cellblock": "solid", "peer": "dashed", "floor": "dotted"}
    series = [
        Series(
            f"{name}: p50 {number(values.p50)}, p90 {number(values.p90)}, p99 {number(values.p99)} {row.unit}"
            f" ({len(values.every)} runs)",
            cumulative(values.every),
            COLOURS[place % len(COLOURS)],
            dashes[values.role],
        )
        for place, (name, values) in enumerate(shown.items())
    ]
    side = "right" if row.more_is_better else "left"
    scale = ", logarithmic" if wide else ""
    subtitle = f"share of the runs at or below a value{scale}; further to the {side} is better"
    return chart(row.name, axis, _PERCENT, series, steps=True, subtitle=subtitle)


def cumulative(values: Sequence[float]) -> list[tuple[float, float]]:
    """The steps from 0 to 100 %."""
    ordered = sorted(values)
    return [(ordered[0], 0.0)] + [
        (value, 100 * (place + 1) / len(ordered)) for place, value in enumerate(ordered)
    ]


def growth(levels: Sequence[Level]) -> dict[str, str]:
    """Latency and memory by the number of live notebooks."""
    if not levels:
        return {}
    live = Axis.of("live notebooks", [float(level.live) for level in levels], logarithmic=True)
    live.ticks = sorted({float(level.live) for level in levels})
    live.low, live.high = live.ticks[0], max(live.ticks[-1], 2 * live.ticks[0])
    engines = list(dict.fromkeys(level.engine for level in levels))
    latency, total, each = [], [], []
    for engine in engines:
        mine = [level for level in levels if level.engine == engine]
        colour = COLOURS[0 if engine == CELLBLOCK else 1]
        for figure, dash in (("p50", "solid"), ("p99", "dashed")):
            points = [
                (
                    float(level.live),
                    statistics.median(level.every) if figure == "p50" else nearest_rank(level.every, 0.99),
                )
                for level in mine
            ]
            latency.append(Series(f"{engine}, {figure}", points, colour, dash, dots=True))
        known = [(float(level.live), level.total_bytes / 1e6) for level in mine if level.total_bytes]
        total.append(Series(engine, known, colour, dots=True))
        each.append(Series(engine, [(count, all_mb / count) for count, all_mb in known], colour, dots=True))
    charts = {
        "growth-latency": ("1+1 round trip with many live notebooks", "ms", latency),
        "growth-memory-total": ("memory of all live notebooks, idle, with pandas", "MB (PSS)", total),
        "growth-memory-each": ("memory of one live notebook, idle, with pandas", "MB (PSS)", each),
    }
    return {
        f"{name}.svg": chart(title, live, _axis(unit, lines), lines, subtitle="both axes logarithmic")
        for name, (title, unit, lines) in charts.items()
        if any(line.points for line in lines)
    }


def _axis(unit: str, lines: Sequence[Series]) -> Axis:
    return Axis.of(unit, [value for line in lines for _, value in line.points], logarithmic=True)
