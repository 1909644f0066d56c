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


# Where a path begins; in a coloured text an `m` comes before it. Without this, every `/` of a long base64
# text would be tried to its end.
_START: Final = r"(?:(?<![\w.+@-])|(?<=\x1b\[\d\dm))"
_QUANTITY: Final = r"[\d.]+ (?:h|min|s|ms|μs|µs|us|ns)"

VOLATILE: Final = (
    _rule(
        "address",
        r"\b0x[0-9a-f]{6,16}\b|(?<= at )0x[0-9A-F]{6,16}\b",
        "0xADDRESS",
        "the default repr names a place in memory; numpy's generators do it in capitals",
    ),
    _rule(
        "cell file",
        rf"{_START}(?:/[\w.-]+)*/ipykernel_\d+/\d+\.py|<ipython-input-\d+-\w+>",
        "CELL",
        "a cell's source has a made-up file name that holds a process id or a hash",
    ),
    _rule(
        "site-packages",
        rf"{_START}(?:/[\w.+@-]+)+/(?:site|dist)-packages/",
        "SITE/",
        "the engines have environments of their own, with the same packages in them",
    ),
    _rule(
        "interpreter",
        rf"{_START}(?:/[\w.+@-]+)+/bin/python(?:\d(?:\.\d+)?)?\b",
        "PYTHON",
        "the same, and their interpreters lie in them",
    ),
    _rule(
        "workspace",
        rf"{_START}(?:(?:/[\w.-]+)*/compare-\w+)?/workspace\b",
        "WORKSPACE",
        "each run has a folder of its own, and a worker's is at one place",
    ),
    _rule(
        "made-up id",
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b"
        r"|(?<=display_id=)[0-9a-f]{32}\b|(?<=altair-viz-)[0-9a-f]{32}\b|\bT_[0-9a-f]{5}(?=[_\W])"
        r'|(?<="model_id": ")[0-9a-f]{32}\b',
        "ID",
        "displays and elements of HTML are told apart by random ids: UUIDs of version 4, IPython's display "
        "ids, Altair's charts, pandas' styled tables, models of widgets",
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
        "overwritten",
        r"^(?:[^\r\n]*\r(?![\r\n]))+",
        "",
        "a carriage return takes back what stands on the line; how often a progress bar does it follows from "
        "the clock, and what remains is what is seen",
    ),
    _rule(
        "progress",
        r"\[\d+:\d\d(?::\d\d)?(?:<(?:\?|\d+:\d\d(?::\d\d)?))?, +[\d.?]+ ?\w*/\w+",
        "[PROGRESS",
        "tqdm prints the machine's speed",
    ),
    _rule("svg date", r"<dc:date>[^<]*</dc:date>", "<dc:date/>", "matplotlib writes when an SVG was drawn"),
    _rule(
        "listing date",
        r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d (?:\d\d:\d\d| \d{4})(?= )",
        "DATE",
        "`ls -l` prints when a file was made, which is now",
    ),
)
"""Applied in this order, to streams and to every textual representation. Pictures need no rule."""


def settle(text: str) -> str:
    """The text with everything volatile replaced."""
    for rule in VOLATILE:
        text = rule.pattern.sub(rule.replacement, text)
    return text
