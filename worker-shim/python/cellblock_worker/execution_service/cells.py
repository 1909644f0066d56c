"""Values as plain JSON: the cells of a table, the content of a display, what a variable holds.

Total: whatever a value does when it is asked for its text, the answer is JSON, and of bounded size. What
JSON has no form for becomes its text. Nothing is imported: no value is of a package that is not loaded.
"""

from __future__ import annotations

import datetime
import json
import math
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from cellblock_worker.errors import clipped

from .packages import class_name

# Of one text.
TEXT_CHARACTERS = 10_000
LABEL_CHARACTERS = 1_000
# Containers within a value.
DEPTH = 20
ITEMS = 1_000


class Plain:
    """Converts values; one per table or display, as what lies within its values is bounded altogether."""

    def __init__(self, items: int = 100_000, text: int = TEXT_CHARACTERS) -> None:
        # How many items of containers there may still be.
        self._left = items
        self._text = text

    def __call__(self, value: Any, depth: int = 0) -> Any:
        """The value as JSON's own types."""
        cls = type(value)
        # The common ones first; `is`, because a metaclass may define `==`.
        if cls is str:
            return clipped(value, self._text)
        if cls is float:
            return number(value)
        if cls is int:
            return integer(value)
        if cls is bool or value is None:
            return value
        try:
            return self._other(value, depth)
        except Exception as failure:
            return _without_text(cls, failure)

    def _other(self, value: Any, depth: int) -> Any:
        cls = type(value)
        if issubclass(cls, dict):
            return self._mapping(value, depth)
        if issubclass(cls, (list, tuple, set, frozenset)):
            return self._sequence(value, length_of(value), depth)
        if issubclass(cls, str):
            return clipped(str.__str__(value), self._text)
        if issubclass(cls, int):
            return integer(int.__int__(value))
        if issubclass(cls, float):
            return number(float.__float__(value))
        if issubclass(cls, (bytes, bytearray)):
            return clipped(bytes(value[: self._text + 1]).decode("utf-8", "replace"), self._text)
        return self._of_packages(value, depth)

    def _of_packages(self, value: Any, depth: int) -> Any:
        pandas, numpy = sys.modules.get("pandas"), sys.modules.get("numpy")
        # NaT first: it is a datetime as well.
        if pandas is not None and (value is pandas.NaT or value is pandas.NA):
            return None
        if isinstance(value, (datetime.date, datetime.time)):
            return value.isoformat()
        if isinstance(value, datetime.timedelta):
            return duration(value)
        if numpy is not None and isinstance(value, numpy.generic):
            return self._numpy_scalar(value, depth)
        if numpy is not None and isinstance(value, numpy.ndarray) and value.size <= ITEMS:
            return self(value.tolist(), depth)
        return clipped(str(value), self._text)

    def _numpy_scalar(self, value: Any, depth: int) -> Any:
        kind = value.dtype.kind
        if kind not in "mM":
            plain = value.item()
            # A long double stays what it is.
            return str(value) if plain is value else self(plain, depth)
        if str(value) == "NaT":
            return None
        # With nanoseconds numpy's own conversion gives a mere number.
        moment = value.astype(f"{kind}8[us]").item()
        return self(moment, depth)

    def _sequence(self, value: Any, length: int, depth: int) -> Any:
        taken = self._take(length, depth)
        plain = [self(item, depth + 1) for item in islice(items_of(value), taken)]
        return plain if taken == length else [*plain, f"… {length - taken} more"]

    def _mapping(self, value: dict[Any, Any], depth: int) -> Any:
        length = length_of(value)
        taken = self._take(length, depth)
        items = islice(dict.items(value), taken)
        plain = {key_text(key): self(item, depth + 1) for key, item in items}
        if taken < length:
            plain["…"] = f"{length - taken} more"
        return plain

    def _take(self, length: int, depth: int) -> int:
        taken = 0 if depth >= DEPTH else min(length, ITEMS, self._left)
        self._left -= taken
        return taken


def number(value: float) -> float | str | None:
    """JSON has no words for what is not finite."""
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def duration(value: datetime.timedelta) -> str:
    """ISO 8601 with days as the largest unit: `P1D`, `-PT0.5S`."""
    microseconds = value // datetime.timedelta(microseconds=1)
    sign, microseconds = ("-", -microseconds) if microseconds < 0 else ("", microseconds)
    seconds, microseconds = divmod(microseconds, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    fraction = f".{microseconds:06d}".rstrip("0") if microseconds else ""
    shown_seconds = f"{seconds}{fraction}S" if seconds or microseconds else ""
    time = (
        "".join(f"{count}{unit}" for count, unit in ((hours, "H"), (minutes, "M")) if count) + shown_seconds
    )
    day = f"{days}D" if days else ""
    return f"{sign}P{day}T{time}" if time else f"{sign}P{day}" if day else "PT0S"


def label(value: Any) -> str | int | float | bool | None:
    """The label of a column or of a Series as a JSON scalar."""
    if type(value) is str:
        return clipped(value, LABEL_CHARACTERS)
    if value is None:
        return None
    plain = Plain(items=ITEMS, text=LABEL_CHARACTERS)(value)
    if isinstance(plain, (str, int, float)):
        return plain
    # A level of several, or what has no value: its text, as pandas itself writes it into JSON.
    return text(value, LABEL_CHARACTERS)


def key_text(value: Any) -> str:
    """The key of an object."""
    plain = label(value)
    if isinstance(plain, str):
        return plain
    return json.dumps(plain)


def text(value: Any, limit: int = TEXT_CHARACTERS, show: Callable[[Any], str] = str) -> str:
    """`str(value)`, bounded, whatever it does."""
    try:
        return clipped(show(value), limit)
    except Exception as failure:
        return _without_text(type(value), failure)


def items_of(value: Any) -> Iterator[Any]:
    """The items of a builtin container, by its own means: a subclass may define others."""
    items: Iterator[Any] = _base_of(value).__iter__(value)
    return items


def length_of(value: Any) -> int:
    """Their number, likewise."""
    return int(_base_of(value).__len__(value))


def _without_text(cls: type, failure: Exception) -> str:
    return f"<{class_name(cls)} whose text cannot be had: {class_name(type(failure))}>"


def _base_of(value: Any) -> Any:
    # Not `isinstance`, which asks the value for its class.
    return next(base for base in (dict, list, tuple, set, frozenset) if issubclass(type(value), base))


def integer(value: int) -> int | str:
    """Python refuses to write very large ones in decimal."""
    return value if value.bit_length() <= 10_000 else f"<an integer of {value.bit_length()} bits>"
