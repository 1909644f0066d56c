"""What a checkpoint's list of names can hold: for one entry that it cannot, the store refuses all of it."""

from __future__ import annotations

import unicodedata
from typing import Any

NAMES = 100_000
LEFT_OUT = 10_000
NAME_BYTES = 1 << 10
TEXT_BYTES = 4 << 10
# They turn the direction of the text around them, or end its line.
_TURNING = frozenset("\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def refusal(name: str) -> str | None:
    """Why a variable of this name cannot be saved. Python code can bind any text: `globals()["\\n"] = 1`."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "its name has half of a character"
    if len(encoded) > NAME_BYTES:
        return f"its name is longer than {NAME_BYTES} bytes"
    if not name.isprintable() and any(map(_is_obeyed, name)):
        return "its name has characters that a terminal obeys"
    return None


def _is_obeyed(letter: str) -> bool:
    return letter in _TURNING or unicodedata.category(letter) == "Cc"


def split(variables: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The variables that can be saved, and the reason for each other."""
    reasons = {name: reason for name in variables if (reason := refusal(name)) is not None}
    kept = {name: value for name, value in variables.items() if name not in reasons}
    for name in list(kept)[NAMES:]:
        del kept[name]
        reasons[name] = f"there are more than {NAMES:,} variables"
    return kept, reasons


def bounded(losses: list[dict[str, str]]) -> list[dict[str, str]]:
    """Losses that the store takes: the last entry counts those that do not fit."""
    over = len(losses) - LEFT_OUT
    kept = losses if over <= 0 else losses[: LEFT_OUT - 1]
    told = [{field: _cut(text) for field, text in loss.items()} for loss in kept]
    if over > 0:
        told.append({"path": "…", "type": "", "reason": f"{over + 1:,} more objects were left out"})
    return told


def _cut(text: str) -> str:
    # Half of a character has no UTF-8; a cut one is dropped.
    return text.encode("utf-8", "replace")[:TEXT_BYTES].decode("utf-8", "ignore")
