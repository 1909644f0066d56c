"""Any value as plain JSON."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
from collections import OrderedDict, namedtuple
from typing import Any

import numpy
import pandas
import pytest

from cellblock_worker.execution_service.cells import Plain, duration, key_text, label


class Hostile:
    """An object that will not be looked at."""

    def __str__(self) -> str:
        raise ValueError("no")


class Long(list[int]):
    """A list that is wrong about itself."""

    def __len__(self) -> int:
        raise ValueError("no")

    def __iter__(self) -> Any:
        raise ValueError("no")


class Colour(enum.IntEnum):
    """A number that is more than one."""

    RED = 1


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (1.5, 1.5),
        (float("nan"), None),
        (float("inf"), "Infinity"),
        (-float("inf"), "-Infinity"),
        (numpy.float32(0.5), 0.5),
        (numpy.int64(3), 3),
        (numpy.bool_(True), True),
        (numpy.datetime64("2024-01-01T12:00", "ns"), "2024-01-01T12:00:00"),
        (numpy.datetime64("NaT"), None),
        (numpy.timedelta64(36, "h"), "P1DT12H"),
        (pandas.Timestamp("2024-01-01"), "2024-01-01T00:00:00"),
        (pandas.NaT, None),
        (pandas.NA, None),
        (pandas.Timedelta(days=1), "P1D"),
        (pandas.Period("2024-01", "M"), "2024-01"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (decimal.Decimal("1.10"), "1.10"),
        (1 + 2j, "(1+2j)"),
        (b"caf\xc3\xa9 \xff", "café �"),
        (Colour.RED, 1),
        (Point(1, 2), [1, 2]),
        ({1}, [1]),
        (OrderedDict(a=[numpy.int8(1)]), {"a": [1]}),
        ({(1, 2): None, None: 1, 1.5: 2}, {"(1, 2)": None, "null": 1, "1.5": 2}),
        (numpy.array([[1, 2]]), [[1, 2]]),
        (Long([1, 2]), [1, 2]),
    ],
)
def test_a_value_has_one_plain_form(value: Any, plain: Any) -> None:
    found = Plain()(value)
    assert found == plain
    assert type(found) is type(plain)
    json.dumps(found, allow_nan=False)


def test_what_will_not_be_looked_at_costs_itself_alone() -> None:
    assert Plain()([1, Hostile()]) == [1, "<Hostile whose text cannot be had: ValueError>"]


def test_integers_that_python_will_not_write_are_described() -> None:
    assert Plain()(1 << 100_000) == "<an integer of 100001 bits>"


def test_what_is_large_is_cut_with_a_mark() -> None:
    assert "characters left out" in Plain(text=100)("x" * 1_000)
    assert Plain()(list(range(2_000)))[-1] == "… 1000 more"
    assert Plain(items=3)([[1, 2], [3, 4], [5, 6]]) == [["… 2 more"], ["… 2 more"], ["… 2 more"]]


def test_what_contains_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    json.dumps(Plain()(endless))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "PT0S"), (86400, "P1D"), (-0.5, "-PT0.5S"), (3661, "PT1H1M1S"), (90000.25, "P1DT1H0.25S")],
)
def test_durations_are_iso(seconds: float, text: str) -> None:
    assert duration(datetime.timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("value", "plain", "key"),
    [
        ("a", "a", "a"),
        (1, 1, "1"),
        (numpy.int64(2), 2, "2"),
        (("a", 1), "('a', 1)", "('a', 1)"),
        (float("nan"), "nan", "nan"),
        (None, None, "null"),
        (pandas.Timestamp("2024-01-01"), "2024-01-01T00:00:00", "2024-01-01T00:00:00"),
    ],
)
def test_labels_are_scalars(value: Any, plain: Any, key: str) -> None:
    assert (label(value), key_text(value)) == (plain, key)
