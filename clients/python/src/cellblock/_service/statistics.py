"""Warnings about results that look statistically wrong: five checks of the printed text and the tables.

The texts of the warnings are what callers know and match. What triggers them is taken narrowly: whole words,
columns by their exact names, a confidence interval only with its own parameter. A fact is told once, however
often its table was captured (displayed, as a variable, printed).

Text and tables come from a worker: patterns have bounded repeats, and any value may be of any type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

WARNINGS: Final = 100
NAME_CHARACTERS: Final = 200
HITS: Final = 1_000
"""How many places of one pattern are looked at more closely."""

_NUMBER: Final = r"[0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE][-+]?[0-9]{1,3})?"
# A number ends here, and is no part of a date.
_END: Final = r"(?![.-]?[0-9])"

_BOUND: Final = re.compile(
    r"\b(?:at|hit|reached|hitting)[ \t]{1,20}(?:(?:lower|upper)[ \t]{1,20})?bounds?\b", re.I
)
_NEGATION: Final = re.compile(
    r"\b(?:no|not|none|never|without)(?:[ \t]{1,5}[\w%'-]{1,30}){0,3}[ \t]{1,5}\Z", re.I
)
_INTERVAL: Final = re.compile(
    rf"\b95%[ \t]{{0,20}}CI[ \t:=]{{1,20}}[\[(]?[ \t]{{0,20}}(-?{_NUMBER})"
    rf"(?:[ \t,]{{1,20}}to[ \t,]{{1,20}}|[ \t]{{0,20}},[ \t]{{0,20}})"
    rf"(-?{_NUMBER}){_END}(?![ \t]{{1,20}}to\b)",
    re.I,
)
_POSITIVE: Final = re.compile(r"(?<![^\W_])(?:clearance|CL|Vd|volume|rate|constant|k)(?![^\W_])", re.I)
# What may be negative, of whatever parameter.
_SIGNED: Final = re.compile(r"(?<![^\W_])(?:difference|diff|change|delta|effect|log|ln)(?![^\W_])", re.I)
_LETTER: Final = re.compile(r"[^\W\d_]")
_VARIATION: Final = re.compile(rf"%CV[ \t:=]{{1,20}}({_NUMBER}){_END}", re.I)

_VARIATION_COLUMN: Final = re.compile(
    r"cv|cv ?%|cv ?\(%\)|coefficient of variation(?: ?\(?%\)?)?|(?:.*[\s_([/-])?% ?cv(?:[\s_)\]/-].*)?", re.S
)
_NAME_COLUMNS: Final = frozenset("parameter param name variable".split())
_ESTIMATES: Final = frozenset("estimate estimates estimated fitted mle coefficient coefficients".split())
_NO_ESTIMATES: Final = frozenset(
    "value values count counts total totals n frequency metric number qty".split()
)
_USUAL_BOUNDS: Final = (1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)

_AT_BOUNDS: Final = (
    "⚠️ STATISTICAL: Parameter(s) may be at optimizer bounds - results unreliable."
    " Consider different initial values or model structure."
)


def warnings_of(stdout: str, tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """The warnings about a cell's results, each once."""
    found = dict.fromkeys(_of_text(stdout))
    told: set[tuple[str, ...]] = set()
    for table in tables:
        for fact in _of_table(table):
            if len(found) >= WARNINGS:
                break
            if fact.key not in told:
                told.add(fact.key)
                found[fact.warning] = None
    return list(found)[:WARNINGS]


# Text.


def _of_text(text: str) -> Iterator[str]:
    for bound in islice(_BOUND.finditer(text), HITS):
        if not _NEGATION.search(text[max(bound.start() - 120, 0) : bound.start()]):
            yield _AT_BOUNDS
            break
    for interval in islice(_INTERVAL.finditer(text), HITS):
        lower, upper = float(interval[1]), float(interval[2])
        subject = _subject(text, interval.start(), interval.end())
        if lower < 0 and _POSITIVE.search(subject) and not _SIGNED.search(subject):
            yield (
                f"🚨 CRITICAL: Confidence interval [{lower}, {upper}] includes impossible negative values for"
                " a positive parameter. This indicates severe model misspecification or inappropriate"
                " methodology."
            )
            break
    for variation in islice(_VARIATION.finditer(text), HITS):
        if (value := float(variation[1])) > 150:
            yield (
                f"⚠️ STATISTICAL: %CV of {value:.1f}% indicates very poor parameter precision"
                " (typically %CV < 50% is acceptable). Consider more data or simpler model."
            )


def _subject(text: str, start: int, end: int) -> str:
    """The words around an interval that say what it is of: those of its line, else the line before."""
    before = text[max(start - 300, 0) : start]
    own = before.rpartition("\n")[2] + " " + text[end : end + 100].partition("\n")[0]
    if _LETTER.search(own):
        return own
    lines = before.rpartition("\n")[0].rstrip()
    return lines.rpartition("\n")[2]


# Tables.


@dataclass(frozen=True, slots=True)
class _Fact:
    warning: str
    # Equal for what is the same after printing, too.
    key: tuple[str, ...]


def _of_table(table: Mapping[str, Any]) -> Iterator[_Fact]:
    columns, rows = table.get("columns"), table.get("data")
    if not isinstance(columns, list) or not isinstance(rows, list):
        return
    names = {column: str(column)[:NAME_CHARACTERS].strip().lower() for column in columns}
    variation = next((column for column, name in names.items() if _VARIATION_COLUMN.fullmatch(name)), None)
    parameter = next((column for column, name in names.items() if name in _NAME_COLUMNS), None)
    estimate = next(
        (column for column, name in names.items() if column != variation and _is_estimate(name)), None
    )
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            continue
        if variation is not None and (value := _number(row.get(variation))) is not None and value > 100:
            yield _poor_precision(_parameter(row, parameter, number), value)
        if parameter is not None and estimate is not None:
            value = _number(row.get(estimate))
            bound = next((bound for bound in _USUAL_BOUNDS if value and abs(value - bound) <= 1e-6), None)
            if bound is not None:
                yield _at_bound(_parameter(row, parameter, number), row[estimate], bound)


def _poor_precision(parameter: str, value: float) -> _Fact:
    key = "variation", parameter, f"{value:.3g}"
    if value > 1_000:
        return _Fact(
            f"🚨 CRITICAL: {parameter} has %CV = {value:.1f}% - parameter is essentially unidentifiable."
            " Model cannot be reliably estimated from this data.",
            key,
        )
    return _Fact(
        f"⚠️ STATISTICAL: {parameter} has %CV = {value:.1f}% (>100%) - poor parameter precision."
        " Consider more data or simpler model.",
        key,
    )


def _at_bound(parameter: str, value: Any, bound: float) -> _Fact:
    return _Fact(
        f"⚠️ STATISTICAL: {parameter} = {value} appears to be at optimizer bounds. Parameter estimates at"
        " bounds are unreliable - consider different initial values or bounds.",
        ("bound", parameter, str(bound)),
    )


def _is_estimate(name: str) -> bool:
    words = set(re.findall(r"[^\W_]+", name))
    return not words.isdisjoint(_ESTIMATES) and words.isdisjoint(_NO_ESTIMATES)


def _parameter(row: Mapping[Any, Any], column: Any, number: int) -> str:
    """What a row is about: its name, else its first text, else its number."""
    found = row.get(column) if column is not None else None
    if found is None:
        found = next((value for value in row.values() if isinstance(value, str)), f"Row {number}")
    return str(found)[:NAME_CHARACTERS]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
