"""JSON that a worker wrote: read within bounds, and strict JSON when it is written again.

Bounds come before reading: a few bytes of JSON (`[],[],…`) can stand for thirty times as many in memory.
Deliberately absent: any knowledge of what the JSON means.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NamedTuple

CONTAINERS: Final = 1_000_000
"""Objects and lists in one text; each takes about a hundred bytes."""
DEPTH: Final = 100
"""Far below where Python's own JSON writer gives up, wherever the caller stands."""

QUICK_BYTES: Final = 1 << 20
"""Up to here JSON is read in one go, which lets no other thread run."""

_SURROGATES: Final = re.compile("[\ud800-\udfff]")
# In a number that is not finite, or close to it.
_LARGE: Final = re.compile(rb"[eE]\+?[0-9]{3}|(?<![0-9])[0-9]{100}")


class Malformed(Exception):
    """What a worker sent is not what it should be. The message completes "left out: …"."""


class Plain(NamedTuple):
    """A value of JSON's own types."""

    value: Any
    is_verbatim: bool
    """False when something had to be replaced, so that the text it was read from is not strict JSON."""


def parse(data: bytes) -> Plain:
    """A value in strict JSON's types: not-a-number is None, infinities are texts, characters are whole."""
    if data.count(b"[") + data.count(b"{") > CONTAINERS:
        raise Malformed(f"its JSON has more than {CONTAINERS} lists and objects")
    is_verbatim = True

    def constant(word: str) -> str | None:
        nonlocal is_verbatim
        is_verbatim = False
        return None if word == "NaN" else word

    def number(text: str) -> float | str | None:
        nonlocal is_verbatim
        value = finite(float(text))
        is_verbatim = is_verbatim and type(value) is float
        return value

    # A function that is called for each float lets an event loop in another thread have its turn.
    is_quick = len(data) <= QUICK_BYTES and not _LARGE.search(data)
    try:
        value = json.loads(data.decode(), parse_constant=constant, parse_float=None if is_quick else number)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"its JSON cannot be read: {error}") from None
    # Only an escape can stand for half of a surrogate pair: it has no UTF-8.
    has_surrogates = b"\\ud" in data or b"\\uD" in data
    if has_surrogates or data.count(b"[") + data.count(b"{") > DEPTH:
        value, was_whole = _checked(value, has_surrogates)
        is_verbatim = is_verbatim and was_whole
    return Plain(value, is_verbatim)


def finite(value: float) -> float | str | None:
    """A number as strict JSON has it."""
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def dump(value: Any) -> str:
    """Strict JSON text."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def well_formed(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair, which no encoding has a form for."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def _checked(value: Any, has_surrogates: bool) -> tuple[Any, bool]:
    """The value with whole characters, and whether it had only such; `Malformed` when it is too deep."""
    root = [value]
    was_whole = True
    level: list[Any] = [root]
    for _ in range(DEPTH + 1):
        if not level:
            return root[0], was_whole
        if has_surrogates:
            for container in level:
                was_whole = _mended(container) and was_whole
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) is dict or type(item) is list
        ]
    raise Malformed(f"its JSON is more than {DEPTH} levels deep")


def _mended(container: Any) -> bool:
    """Mends the texts of one container in place; whether there was nothing to mend."""
    was_whole = True
    for at, item in list(container.items() if type(container) is dict else enumerate(container)):
        if isinstance(item, str) and (whole := well_formed(item)) != item:
            container[at] = whole
            was_whole = False
    if type(container) is dict and any(well_formed(key) != key for key in container):
        mended = {well_formed(key): item for key, item in container.items()}
        container.clear()
        container.update(mended)
        return False
    return was_whole
