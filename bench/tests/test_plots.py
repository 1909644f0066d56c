"""Charts are well-formed SVG that shows what was measured, within its frame."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import plots
from bench.parts.growth import Level
from bench.rows import CELLBLOCK, Row
from bench.svg import Axis, Series, chart, even_ticks, label, log_ticks

SVG = "{http://www.w3.org/2000/svg}"


def lines_of(text: str) -> list[list[tuple[float, float]]]:
    """The points of the drawn lines, without the legend's; a step has its corner."""
    found = []
    for path in ElementTree.fromstring(text).findall(f"{SVG}path"):
        across, up = 0.0, 0.0
        points = []
        for command, rest in re.findall(r"([MLHV])([^MLHV]+)", path.attrib["d"]):
            numbers = [float(word) for word in rest.split()]
            if command in "ML":
                across, up = numbers
            elif command == "H":
                across = numbers[0]
            else:
                up = numbers[0]
            points.append((across, up))
        found.append(points)
    return found[: len(found) // 2]


def row() -> Row:
    found = Row("start", "new notebook → first <result> & more")
    found.values("cellblock", "cellblock").extend([1.0, 2.0, 4.0, 3.0])
    found.values("peer", "peer").extend([100.0, 1000.0])
    found.values("one run only", "floor").append(0.1)
    return found


def test_a_distribution_rises_from_nothing_to_all_and_never_goes_back() -> None:
    text = plots.distribution(row())
    assert text is not None
    ours, theirs = lines_of(text)
    for line in (ours, theirs):
        assert all(before[0] <= after[0] and before[1] >= after[1] for before, after in pairwise(line))
    # All of ours is left of all of the peer's; both reach the same bottom and top.
    assert ours[-1][0] < theirs[0][0]
    assert (ours[0][1], ours[-1][1]) == (theirs[0][1], theirs[-1][1])


def test_names_with_marks_of_xml_are_text() -> None:
    text = plots.distribution(row())
    assert text is not None
    title = ElementTree.fromstring(text).find(f"{SVG}title")
    assert title is not None
    assert title.text == "new notebook → first <result> & more"


def test_one_run_has_no_distribution() -> None:
    lonely = Row("burst", "all of them")
    lonely.values("cellblock", "cellblock").append(1.0)
    assert plots.distribution(lonely) is None


@pytest.mark.parametrize("least", [0.0, -0.5])
def test_values_at_and_below_nothing_have_an_even_axis(least: float) -> None:
    overshoot = Row("limits", "overshoot")
    overshoot.values("cellblock", "cellblock").extend([least, 20.0])
    text = plots.distribution(overshoot)
    assert text is not None
    assert "logarithmic" not in text


def test_everything_drawn_lies_within_the_frame() -> None:
    x = Axis.of("live", [1.0, 200.0], logarithmic=True)
    y = Axis.of("ms", [0.2, 7.0], logarithmic=True)
    text = chart("growth", x, y, [Series("ours", [(1.0, 0.2), (200.0, 7.0)], "#000", dots=True)])
    ((left, low), (right, high)) = lines_of(text)[0]
    assert 76 <= left < right <= 836
    assert 56 <= high < low <= 404
    assert len(ElementTree.fromstring(text).findall(f"{SVG}circle")) == 3


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 1.0), (0.3, 7.0), (4.0, 900.0), (0.02, 80_000.0), (10.0, 10.0)]
)
def test_logarithmic_ticks_hold_all_values_and_are_few(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert ticks[0] <= low * 1.000001
    assert ticks[-1] >= high * 0.999999
    assert 2 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(("low", "high"), [(0.0, 7.3), (-0.4, 20.0), (0.0, 0.0), (0.0, 1e6)])
def test_even_ticks_hold_all_values_and_are_few(low: float, high: float) -> None:
    ticks = even_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 9


def test_nothing_and_less_have_no_place_on_a_logarithmic_axis() -> None:
    with pytest.raises(ValueError, match="no place"):
        Axis.of("ms", [0.0, 1.0], logarithmic=True)


def test_ticks_are_written_short() -> None:
    assert [label(value) for value in (0.001, 0.05, 1.0, 2000.0, 100_000.0)] == [
        "1e-3",
        "0.05",
        "1",
        "2,000",
        "100,000",
    ]


def test_a_folder_gets_a_chart_for_each_row_and_three_of_growth(tmp_path: Path) -> None:
    levels = [
        Level(engine, live, 1.0, live * size, [[1.0] * live])
        for engine, size in ((CELLBLOCK, 8_000_000), ("jupyter", 80_000_000))
        for live in (1, 10)
    ]
    written = plots.write(tmp_path / "plots", [row()], levels)
    assert sorted(path.name for path in written) == [
        "growth-latency.svg",
        "growth-memory-each.svg",
        "growth-memory-total.svg",
        "new-notebook-first-result-more.svg",
    ]
    for path in written:
        assert ElementTree.fromstring(path.read_text()).tag == f"{SVG}svg"
    each = lines_of((tmp_path / "plots/growth-memory-each.svg").read_text())
    # The same for each, however many there are.
    assert all(line[0][1] == line[-1][1] for line in each)


def test_without_permission_to_read_memory_latency_is_drawn_alone(tmp_path: Path) -> None:
    levels = [Level(CELLBLOCK, 1, 1.0, None, [[1.0]])]
    assert [path.name for path in plots.write(tmp_path, [], levels)] == ["growth-latency.svg"]
