"""What no two runs have in common, whatever the engine.

Everything that is made equal before two texts are compared stands in `VOLATILE`, and nowhere else. Each
rule must be as narrow as its reason: a rule that is too wide hides a defect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """Every match of `pattern` becomes `replacement`."""

    name: str
    pattern: re.Pattern[str]
    replacement: str
    reason: str


def _rule(name: str, pattern: str, replacement: str, reason: str) -> Rule:
    return Rule(name, re.compile(pattern, re.MULTILINE), replacement, reason)


_QUANTITY: Final = r"[\d.]+ (?:h|min|s|ms|μs|µs|us|ns)"

VOLATILE: Final = (
    _rule("address", r"\b0x[0-9a-f]{6,16}\b", "0xADDRESS", "the default repr names a place in memory"),
    _rule(
        "cell file",
        r"(?:/[\w.-]+)*/ipykernel_\d+/\d+\.py|<ipython-input-\d+-\w+>",
        "CELL",
        "a cell's source has a made-up file name that holds a process id or a hash",
    ),
    _rule(
        "site-packages",
        r"(?:/[\w.+@-]+)+/(?:site|dist)-packages/",
        "SITE/",
        "the engines have environments of their own, with the same packages in them",
    ),
    _rule(
        "timeit",
        rf"{_QUANTITY} ± {_QUANTITY} per loop \(mean ± std\. dev\. of (\d+) runs, [\d,]+ loops? each\)",
        r"TIME per loop (mean ± std. dev. of \1 runs)",
        "%timeit prints the machine's speed, and the number of loops follows from it",
    ),
    _rule(
        "timeit spread",
        r"^The slowest run took [\d.]+ times longer than the fastest\. .*\n",
        "",
        "%timeit warns when the machine was busy",
    ),
    _rule(
        "time",
        rf"^(?:CPU times: .*|Wall time: {_QUANTITY}|Compiler *: {_QUANTITY}|Parser *: {_QUANTITY})\n?",
        "TIME\n",
        "%time prints the machine's speed; compile times appear only above a threshold",
    ),
    _rule(
        "merged time",
        r"(?:TIME\n)+",
        "TIME\n",
        "%time has one line more when compiling took long",
    ),
    _rule(
        "listing date",
        r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d (?:\d\d:\d\d| \d{4})(?= )",
        "DATE",
        "`ls -l` prints when a file was made, which is now",
    ),
)
"""Applied in this order. What is compared by kind alone (html, images) needs no rule."""


def settle(text: str) -> str:
    """The text with everything volatile replaced."""
    for rule in VOLATILE:
        text = rule.pattern.sub(rule.replacement, text)
    return text
