"""Charts as SVG: axes, steps, lines and points, and nothing else; no dependency and no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import escape, quoteattr

WIDTH: Final = 860
HEIGHT: Final = 460
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#5a5a5a", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, which people with any sight can tell apart."""
DASHES: Final = {"solid": "", "dashed": "7 4", "dotted": "2 4"}
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 56, 56
_LEGEND_LINE: Final = 20


@dataclass(frozen=True, slots=True)
class Series:
    """A line in a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    dash: str = "solid"
    dots: bool = False


@dataclass(slots=True)
class Axis:
    """From its lowest to its highest value, in tens (logarithmic) or evenly."""

    label: str
    low: float
    high: float
    logarithmic: bool = False
    ticks: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, label: str, values: Sequence[float], *, logarithmic: bool) -> Axis:
        """With round ends that hold all values."""
        low, high = min(values), max(values)
        if logarithmic:
            if low <= 0:
                raise ValueError(f"{low} has no place on a logarithmic axis")
            ticks = log_ticks(low, high)
        else:
            ticks = even_ticks(min(0.0, low), high)
        return cls(label, ticks[0], ticks[-1], logarithmic, ticks)

    def share(self, value: float) -> float:
        """Where on the axis it lies: 0 is the low end, 1 the high one."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, …, that hold both; only the tens when there are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if math.log10(high / low) <= 3 else (1,)
    all_ticks = [factor * 10.0**power for power in range(first - 1, last + 2) for factor in factors]
    start = max(place for place, tick in enumerate(all_ticks) if tick <= low * (1 + 1e-9))
    end = min(place for place, tick in enumerate(all_ticks) if tick >= high * (1 - 1e-9))
    return all_ticks[start : max(end, start + 1) + 1]


def even_ticks(low: float, high: float) -> list[float]:
    """Four to eight round steps that hold both."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * place for place in range(first, max(last, first + 1) + 1)]


def chart(
    title: str, x: Axis, y: Axis, series: Sequence[Series], *, steps: bool = False, subtitle: str = ""
) -> str:
    """A whole document. With `steps`, a line stays at its value until the next point."""
    height = HEIGHT + _LEGEND_LINE * len(series)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(_LEFT, 26, title, size=17, weight="bold"),
        _text(_LEFT, 45, subtitle, colour="#666"),
        *_grid(x, y),
        *(line for one in series for line in _series(one, x, y, steps)),
        *_legend(series),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _grid(x: Axis, y: Axis) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for tick in x.ticks:
        place = _x(x, tick)
        parts.append(_line(place, _TOP, place, bottom, "#e3e3e3"))
        parts.append(_text(place, bottom + 18, label(tick), anchor="middle"))
    for tick in y.ticks:
        place = _y(y, tick)
        parts.append(_line(_LEFT, place, right, place, "#e3e3e3"))
        parts.append(_text(_LEFT - 8, place + 4, label(tick), anchor="end"))
    middle = (_TOP + bottom) / 2
    return [
        *parts,
        _line(_LEFT, bottom, right, bottom, "#555"),
        _line(_LEFT, _TOP, _LEFT, bottom, "#555"),
        _text((_LEFT + right) / 2, bottom + 40, x.label, anchor="middle"),
        f'<g transform="rotate(-90 18 {middle:.1f})">{_text(18, middle, y.label, anchor="middle")}</g>',
    ]


def _series(series: Series, x: Axis, y: Axis, steps: bool) -> list[str]:
    path: list[str] = []
    before: str | None = None
    for across, up in series.points:
        right, above = f"{_x(x, across):.1f}", f"{_y(y, up):.1f}"
        if before is None:
            path.append(f"M{right} {above}")
        elif steps:
            path.append(f"H{right}V{above}")
        else:
            path.append(f"L{right} {above}")
        before = above
    parts = [f'<path d="{"".join(path)}" fill="none" {_stroke(series)}/>'] if path else []
    if series.dots:
        parts += [
            f'<circle cx="{_x(x, across):.1f}" cy="{_y(y, up):.1f}" r="3.5" fill={quoteattr(series.colour)}/>'
            for across, up in series.points
        ]
    return parts


def _legend(series: Sequence[Series]) -> list[str]:
    parts = []
    for place, one in enumerate(series):
        middle = HEIGHT + 4 + _LEGEND_LINE * place
        parts.append(f'<path d="M{_LEFT} {middle}H{_LEFT + 34}" fill="none" {_stroke(one)}/>')
        if one.dots:
            parts.append(f'<circle cx="{_LEFT + 17}" cy="{middle}" r="3.5" fill={quoteattr(one.colour)}/>')
        parts.append(_text(_LEFT + 44, middle + 4, one.name))
    return parts


def _stroke(series: Series) -> str:
    dash = DASHES[series.dash]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke={quoteattr(series.colour)} stroke-width="2" stroke-linejoin="round"{dashed}'


def _x(axis: Axis, value: float) -> float:
    return _LEFT + axis.share(value) * (WIDTH - _LEFT - _RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - axis.share(value) * (HEIGHT - _TOP - _BOTTOM)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 13,
    weight: str = "normal",
    colour: str = "#222",
) -> str:
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def label(value: float) -> str:
    """A tick's number, as short as it can be."""
    if value and abs(value) < 0.01:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
