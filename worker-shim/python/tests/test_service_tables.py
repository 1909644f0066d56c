"""DataFrames as tables, and which of them a run captures."""

from __future__ import annotations

import json
from typing import Any

import numpy
import pandas
import pytest

from cellblock_worker.execution_service import entries, tables

from .harness import Worker
from .service import Service, table_of


def wire(frame: Any) -> Any:
    """A table as it travels."""
    parts = tables.table(frame, "t").parts(None, "variable")
    return table_of(parts[entries.TABLE], parts.get(entries.FLOATS, b""))


@pytest.fixture(scope="module")
def service(shared: Worker) -> Service:
    """A worker that the tests of this module share."""
    return Service(shared)


class Stubborn:
    """An object without a text."""

    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__

    def __sizeof__(self) -> int:
        raise ValueError("no")


# The table.


def test_a_table_has_shape_columns_rows_and_info() -> None:
    table = wire(pandas.DataFrame({"a": [1, 2], 5: ["x", None]}))
    assert table["shape"] == [2, 2]
    assert table["columns"] == ["a", 5]
    assert table["data"] == [[1, "x"], [2, None]]
    assert table["info"]["dtypes"]["a"] == "int64"
    assert set(table["info"]["memory_usage"]) == {"Index", "a", "5"}
    assert table["truncated"] is False


@pytest.mark.parametrize(
    ("frame", "columns", "rows"),
    [
        (
            pandas.DataFrame([[1, 2]], columns=pandas.MultiIndex.from_tuples([("a", "x"), ("a", "y")])),
            ["('a', 'x')", "('a', 'y')"],
            [[1, 2]],
        ),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), ["a", "a"], [[1, 2]]),
        (pandas.DataFrame({"a": [[1, 2], [3, 4]]}), ["a"], [[[1, 2]], [[3, 4]]]),
        (pandas.DataFrame({"a": [float("inf"), -float("inf")]}), ["a"], [[float("inf")], [-float("inf")]]),
        (pandas.DataFrame({"a": pandas.Categorical(["u", None])}), ["a"], [["u"], [None]]),
        (pandas.DataFrame({"a": pandas.to_timedelta([1, None], unit="D")}), ["a"], [["P1D"], [None]]),
        (pandas.DataFrame({"a": pandas.array([1, None], dtype="Int64")}), ["a"], [[1], [None]]),
        (pandas.DataFrame({"a": [b"x", None]}, dtype=object), ["a"], [["x"], [None]]),
        (pandas.DataFrame({"a": [True, False]}), ["a"], [[True], [False]]),
        (pandas.DataFrame(index=[1, 2]), [], [[], []]),
        (pandas.DataFrame({"a": []}), ["a"], []),
    ],
)
def test_any_frame_has_a_table(frame: Any, columns: Any, rows: Any) -> None:
    table = wire(frame)
    assert (table["columns"], table["data"]) == (columns, rows)
    assert table["shape"] == list(frame.shape)


def test_a_cell_without_a_text_costs_itself_alone() -> None:
    table = tables.table(pandas.DataFrame({"a": [Stubborn(), 1], "b": ["<i>", 2], "c": [0.5, 1]}), "t")
    assert table.values[:2] == [["<Stubborn whose text cannot be had: ValueError>", 1], ["<i>", 2]]
    assert "<td>&lt;i&gt;</td><td>0.5</td>" in table.html


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert wire(pandas.DataFrame({"a": ["x\ud800"]}, dtype=object))["data"] == [["x?"]]


@pytest.mark.parametrize(
    ("shape", "rows", "columns"), [((5_000, 2), 1_000, 2), ((5_000, 20), 500, 20), ((1_000, 500), 50, 200)]
)
def test_large_tables_are_cut_and_say_so(shape: tuple[int, int], rows: int, columns: int) -> None:
    frame = pandas.DataFrame(numpy.zeros(shape))
    table = wire(frame)
    assert (len(table["data"]), len(table["columns"])) == (rows, columns)
    assert table["shape"] == list(shape)
    assert table["truncated"] is True
    html = tables.table(frame, "t").html
    assert html.count("<tr") <= tables.HTML_ROWS + 3


def test_long_texts_are_cut_and_the_rest_of_the_rows_left_out() -> None:
    frame = pandas.DataFrame({"a": ["x" * 20_000] * 1_000})
    table = wire(frame)
    assert "characters left out" in table["data"][0][0]
    assert len(json.dumps(table)) < tables.CHARACTERS + 100_000
    assert table["truncated"] is True
    assert len(tables.table(frame, "t").html) < tables.HTML_CHARACTERS


def test_a_hundred_thousand_rows_cost_no_more_on_the_wire_than_a_thousand() -> None:
    table = tables.table(pandas.DataFrame(numpy.random.rand(100_000, 8)), "t")
    parts = table.parts(None, "variable")
    assert sum(map(len, parts.values())) < 100_000


# What a run captures.


def test_new_and_rebound_frames_are_captured_and_changed_ones_are_not(service: Service) -> None:
    first = service.run("one = pd.DataFrame({'a': [1]})\n_two = one.copy()\nthree = 3")
    assert [(t["name"], t["source"], t["type"], t["label"]) for t in first.of("table")] == [
        ("one", "variable", None, None)
    ]
    assert service.run("one['b'] = 1").of("table") == []
    assert service.run("x = 1").of("table") == []
    assert [t["name"] for t in service.run("one = one.copy()").of("table")] == ["one"]
    assert [t["name"] for t in service.run("alias = one").of("table")] == ["alias"]


def test_a_frame_at_the_place_of_another_is_new(service: Service) -> None:
    # The old one's memory, and so its id, may be used again at once.
    service.run("frame = pd.DataFrame({'a': [1]})")
    for _ in range(5):
        run = service.run("del frame\nframe = pd.DataFrame({'a': [1]})")
        assert [t["name"] for t in run.of("table")] == ["frame"]


def test_frames_of_other_code_are_not_new(service: Service) -> None:
    service.worker.run("import pandas as pd\nelsewhere = pd.DataFrame({'a': [1]})")
    assert service.run("x = 1").shown == []


def test_a_subclass_is_read_as_what_it_is_a_frame(service: Service) -> None:
    run = service.run(
        "class Odd(pd.DataFrame):\n"
        "    shape = property(lambda self: 1 / 0)\n"
        "    columns = property(lambda self: 1 / 0)\n"
        "    def to_html(self, *a, **k): raise ValueError\n"
        "odd = Odd({'a': [1, 2]})"
    )
    assert run.only("table")["data"] == [[1], [2]]
    assert run.notices == []


def test_frames_made_before_an_error_are_captured(service: Service) -> None:
    run = service.try_("before = pd.DataFrame({'a': [1]})\n1/0")
    assert run.end["error"]["name"] == "ZeroDivisionError"
    assert run.only("table")["name"] == "before"


def test_the_bundle_is_html_for_everybody_else(service: Service) -> None:
    run = service.run("shown = pd.DataFrame({'a': [1]})")
    html = run.shown[0].output.part("text/html").decode()
    assert 'class="dataframe table table-striped"' in html
