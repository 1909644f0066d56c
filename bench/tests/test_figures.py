"""What the tables say must follow from the samples."""

from __future__ import annotations

import pytest

import cellblock
from bench.figures import Samples, Spread, aligned, spreads
from bench.peers import Arrival
from bench.slow_reader import LINE_BYTES, Arrived, printed_at
from bench.streaming import latencies


def stream(place: int, length: int) -> cellblock.Stream:
    return cellblock.Stream(0, "stdout", printed_at(place, length))


def dropped(size: int) -> cellblock.Truncated:
    return cellblock.Truncated(1, "stdout", size, "cap")


@pytest.mark.parametrize(("runs", "expected"), [(1, 1), (30, 30), (100, 99), (300, 297)])
def test_p99_is_the_nearest_rank(runs: int, expected: int) -> None:
    assert Samples([float(number) for number in range(runs, 0, -1)]).p99 == expected


def test_half_nine_of_ten_and_the_slowest_are_told_apart() -> None:
    samples = Samples([float(number) for number in range(10, 0, -1)])
    assert (samples.median, samples.p90, samples.longest) == (5.5, 9, 10)


def test_a_spread_says_how_many_times_as_long_the_others_take() -> None:
    row = Spread.of("first line", "ours", "theirs")
    row.engines["ours"].seconds += [0.001, 0.002, 0.003]
    row.engines["theirs"].seconds += [0.2, 0.3]
    _, ours, theirs = (line.split() for line in spreads([row], "ours").splitlines())
    assert ours == ["first", "line", "3", "2.00", "3.00", "3.00", "3.00", "1.0", "1.0", "ours"]
    assert theirs == ["2", "250", "300", "300", "300", "125.0", "100.0", "theirs"]
    assert row.as_json()["theirs"]["samples_ms"] == [200, 300]


def test_a_stamp_counts_when_all_of_it_is_there() -> None:
    pieces = [(5_000, "|1000|\n|2"), (9_000, "000|\n...")]
    found = list(latencies(Arrival(at_ns, text) for at_ns, text in pieces))
    assert found == pytest.approx([4e-6, 7e-6])


def test_a_flood_between_stamps_is_no_stamp() -> None:
    pieces = [(5_000, "|1000|" + "0123456789 " * 10_000), (9_000, "1 . . |"), (10_000, "6000|\n")]
    found = list(latencies(Arrival(at_ns, text) for at_ns, text in pieces))
    assert found == pytest.approx([4e-6, 4e-6])


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned([("a", "1"), ("bcd", "234")]) == "a      1\nbcd  234"
    assert aligned([("a", "1"), ("bcd", "234")], words=(0, 1)) == "a    1\nbcd  234"


def test_any_piece_of_what_is_printed_can_be_told() -> None:
    whole = printed_at(0, 5 * LINE_BYTES)
    assert len(whole) == 5 * LINE_BYTES
    assert whole[LINE_BYTES : LINE_BYTES + 10] == b"000000001 "
    assert printed_at(LINE_BYTES - 3, 2 * LINE_BYTES) == whole[LINE_BYTES - 3 : 3 * LINE_BYTES - 3]


def test_head_gap_and_tail_are_a_whole() -> None:
    arrived = Arrived(10_000)
    for output in (stream(0, 3_000), dropped(5_000), stream(8_000, 2_000)):
        arrived.take(output)
    assert (arrived.whole, arrived.head, arrived.received) == (True, 3_000, 5_000)


@pytest.mark.parametrize(
    "outputs",
    [
        (stream(0, 10_000), stream(9_999, 1)),
        (stream(0, 4_000), stream(4_001, 6_000)),
        (stream(0, 4_000), dropped(5_999)),
        (stream(1, 10_000),),
    ],
    ids=["a byte twice", "a byte lost", "a gap told wrong", "from the wrong place"],
)
def test_what_is_lost_or_doubled_is_seen(outputs: tuple[cellblock.Output, ...]) -> None:
    arrived = Arrived(10_000)
    for output in outputs:
        arrived.take(output)
    assert not arrived.whole
