"""Rows, their table and their JSON, from values that are given."""

from __future__ import annotations

import json

import pytest

from bench.parts import Found
from bench.parts.growth import Level
from bench.peers import BenchError
from bench.rows import Row, Turn, Values, number, take_turns
from bench.run import document, report
from bench.setup import unsettled


def row_of(**engines: list[float]) -> Row:
    row = Row("start", "first result")
    for name, values in engines.items():
        row.values(name, "peer" if name == "peer" else "cellblock").extend(values)
    return row


def test_where_more_is_better_p99_is_at_the_low_end() -> None:
    runs = [float(value) for value in range(1, 101)]
    less, more = Values("peer", False, runs), Values("peer", True, runs)
    assert (less.p50, less.p90, less.p99, less.worst) == (50.5, 90, 99, 100)
    assert (more.p50, more.p90, more.p99, more.worst) == (50.5, 11, 2, 1)


def test_a_ratio_above_one_is_better_than_the_peer_whatever_the_unit() -> None:
    faster = row_of(ours=[2.0], peer=[10.0])
    assert (faster.times_better("ours"), faster.times_better("peer")) == (5, 1)
    more = Row("throughput", "stdout", "MB/s", more_is_better=True)
    more.values("ours", "cellblock").append(50)
    more.values("peer", "peer").append(10)
    assert more.times_better("ours") == 5


def test_without_a_peer_there_is_no_ratio() -> None:
    row = row_of(ours=[2.0])
    row.must_be_times_better("ours", 10)
    assert row.times_better("ours") is None
    assert row.goals == []


def test_goals_say_what_was_found_and_whether_it_is_enough() -> None:
    row = row_of(ours=[9.0, 10.0, 31.0], peer=[1100.0])
    row.must("ours", "p50", 10)
    row.must_be_steady("ours", 3)
    row.must_be_times_better("ours", 100)
    row.must("theirs that could not be measured", "p50", 1)
    assert [goal.met for goal in row.goals] == [True, False, True]
    assert "MISSED: first result, ours, p99 / p50: 3.10, at most 3.00 wanted" in str(row.goals[1])


def test_engines_take_turns_and_the_turns_turn_around() -> None:
    order: list[str] = []

    def run(engine: str) -> float:
        order.append(engine)
        return float(len(order))

    turns = [Turn("a", "cellblock", lambda: run("a"), times=2), Turn("b", "peer", lambda: run("b"))]
    row = take_turns(Row("start", "first result"), turns, rounds=2, warm_ups=1)
    # One of each warms up and is not counted; the fast one has two runs in each round.
    assert order == ["a", "b", "b", "a", "a", "a", "a", "b"]
    assert row.engines["a"].every == [4, 5, 6, 7]
    assert row.engines["b"].every == [3, 8]
    assert row.engines["a"].role == "cellblock"


def found() -> Found:
    row = row_of(ours=[1.0, 2.0], peer=[100.0, 300.0])
    row.must("ours", "p50", 1)
    row.absent["bwrap"] = "not here"
    levels = [
        Level("ours", 2, 0.5, 20_000_000, [[1.0, 2.0], [3.0, 9.0]]),
        Level("ours", 1, 0.1, None, [[1.0]]),
    ]
    return Found([row], levels, {"burst": "no more processes"})


def test_the_report_has_every_engine_level_absence_and_goal() -> None:
    lines = report(found()).splitlines()
    assert lines[1].split() == "first result ms 2 1.50 2.00 2.00 133 150 ours".split()
    assert lines[2].split() == "ms 2 200 300 300 1.00 1.00 peer peer".split()
    assert lines[5].split() == "1 0.10 1.00 1.00 1.00 – – ours".split()
    assert lines[6].split() == "2 0.50 2.50 9.00 9.00 20.0 10.0 ours".split()
    assert lines[8] == "failed: burst: no more processes"
    assert lines[9] == "not measured: first result, bwrap: not here"
    assert lines[11].startswith("goal MISSED: first result, ours, p50 in ms: 1.50")


def test_a_notebook_that_is_slow_each_time_shows_among_fast_ones() -> None:
    level = Level("ours", 3, 0.0, None, [[1.0, 5.0, 1.0], [9.0, 6.0, 1.0]])
    assert level.worst_notebook_p99 == 9
    assert level.every == [1, 5, 1, 9, 6, 1]


def test_the_document_has_all_runs_and_can_be_read_back() -> None:
    written = json.loads(json.dumps(document(found(), {"cpus": 2}, {"start": 1.5})))
    assert written["format"] == 2
    assert (written["host"], written["seconds"]) == ({"cpus": 2}, {"start": 1.5})
    assert written["failed"] == {"burst": "no more processes"}
    (row,) = written["rows"]
    assert [engine["samples"] for engine in row["engines"]] == [[1, 2], [100, 300]]
    assert row["engines"][0]["times_better_p50"] == pytest.approx(133.3333)
    assert row["absent"] == [{"engine": "bwrap", "why": "not here"}]
    assert row["goals"][0]["met"] is False
    assert [level["live"] for level in written["growth"]] == [2, 1]
    assert written["growth"][1]["total_pss_bytes"] is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123, "0.12"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (-12.34, "-12.3")],
)
def test_numbers_have_as_many_places_as_say_something(value: float, text: str) -> None:
    assert number(value) == text


def profile(name: str, zygote: str, ready: int, wanted: int) -> dict[str, object]:
    return {
        "profile": name,
        "zygote": zygote,
        "detail": "no module named `pandsa`",
        "spares_ready": ready,
        "spares_wanted": wanted,
    }


def test_what_is_warmed_is_waited_for_and_what_will_not_be_warm_is_told() -> None:
    assert unsettled([profile("a", "up", 2, 2)], ("a",)) is None
    assert unsettled([profile("a", "up", 1, 2)], ("a",)) == "profile a has 1 of 2 spares"
    assert unsettled([profile("a", "up", 0, 0), profile("b", "starting", 0, 0)], ("a",)) is not None
    assert unsettled([], ("a",)) == "profile a is not warm"
    # A zygote that nobody measures does not matter.
    assert unsettled([profile("a", "up", 0, 0), profile("b", "failed", 0, 0)], ("a",)) is None
    with pytest.raises(BenchError, match="pandsa"):
        unsettled([profile("a", "failed", 0, 2)], ("a",))
