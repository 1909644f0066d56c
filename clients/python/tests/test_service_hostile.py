"""A worker says what it likes: it costs a part of the result and makes a notice, nothing else."""

from __future__ import annotations

import json
import math
import random
import struct
import time
from typing import Any

import pytest

from cellblock import Display, Output, Raised, Stream
from cellblock._service import artefacts, assembly, plain, reports
from cellblock._service.artefacts import DISPLAY, PLOTLY, TABLE

from .assembled import PNG, assembled, display, image, plotly, report, shown, table, text

WRONG_TABLES: list[dict[str, Any]] = [
    {"shape": [1]},
    {"shape": [-1, 2]},
    {"shape": [True, 2]},
    {"shape": None},
    {"columns": "ab"},
    {"columns": ["a", ["b"]]},
    {"columns": [{}, "b"]},
    {"rows": None},
    {"rows": True},
    {"rows": -1},
    {"rows": 3},
    {"rows": 1_001, "values": [[1] * 1_001, [2] * 1_001]},
    {"rows": 1, "columns": list(range(201)), "values": [[1]] * 201},
    {"rows": 101, "columns": list(range(100)), "values": [[1] * 101] * 100},
    {"values": None},
    {"values": [[1, 2]]},
    {"values": [[1, 2], [3, 4], [5, 6]]},
    {"values": [[1, 2], [3]]},
    {"values": [[1, 2], "ab"]},
    {"values": [[1, 2], {"a": 1, "b": 2}]},
    {"values": [[1, 2], None]},
    {"floats": bytes(16)},
    {"floats": bytes(15), "values": [[1, 2], None]},
    {"floats": bytes(16), "values": [None, None]},
    {"info": None},
    {"info": {"dtypes": {"a": 1}, "memory_usage": {}}},
    {"info": {"dtypes": {}, "memory_usage": {"a": "1"}}},
    {"name": 5},
    {"source": "stdout"},
    {"source": None},
]


@pytest.mark.parametrize("change", WRONG_TABLES, ids=lambda change: str(change)[:40])
def test_a_table_of_the_wrong_shape_is_left_out_with_a_notice(change: dict[str, Any]) -> None:
    result = assembled([report(), table(**change), table("good")])
    assert [entry["name"] for entry in result.tables] == ["good"]
    [notice] = result.notices
    assert notice["topic"] == "degraded"
    assert notice["text"].startswith("a display is left out: ")
    assert result.status == "success"


@pytest.mark.parametrize(
    "parts",
    [
        {TABLE: b"\xff"},
        {TABLE: b""},
        {TABLE: b"[" * 100_000},
        {TABLE: b"7"},
        {TABLE: b"9" * 5_000},
        {TABLE: b'{"source": ' + b"[" * 900 + b"]" * 900 + b"}"},
        {DISPLAY: {"type": "script", "label": None, "content": ""}},
        {DISPLAY: {"type": "html", "label": 4, "content": ""}},
        {DISPLAY: {"type": "html", "label": None}},
        {DISPLAY: []},
        {PLOTLY: []},
        {PLOTLY: {"layout": {}}},
        {PLOTLY: {"data": {}}},
        {"image/png": b"GIF89a"},
        {"image/jpeg": PNG},
        {"application/json": b"{"},
        {"application/x-unknown": b"?"},
        {},
    ],
    ids=lambda parts: str(parts)[:40],
)
def test_a_display_of_the_wrong_shape_is_left_out_with_a_notice(parts: dict[str, Any]) -> None:
    result = assembled([display(parts), image()])
    assert (len(result.plots), len(result.notices)) == (1, 1)
    assert (result.tables, result.interactive_plots) == ([], [])


@pytest.mark.parametrize(
    "change",
    [
        {"lint_report": []},
        {"lint_report": {"engine": "builtin", "issues": [1]}},
        {"lint_report": {"engine": "builtin", "issues": [{"message": "m"}]}},
        {"lint_report": {"issues": []}},
        {"autofix_report": 1},
        {"autofix_report": {"enabled": True}},
        {"refused": "no"},
        {"refused": {"message": None}},
        {"refused": {"message": "m", "suggestions": [1]}},
        {"refused": {"message": "m", "suggestions": "abc"}},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
def test_a_report_of_the_wrong_shape_is_left_out_with_a_notice(change: dict[str, Any]) -> None:
    result = assembled([report(**change), image()], Raised("ValidationError", "m"))
    assert (result.lint_report, result.autofix_report, result.syntax_error) == (None, None, None)
    assert result.error_message == "m"
    [notice] = result.notices
    assert notice["text"].startswith("the report on the code is left out: ")


def test_only_the_first_report_counts() -> None:
    result = assembled([report(), report(lint_report={"engine": "forged", "issues": []})])
    assert result.lint_report == {"engine": "builtin", "issues": []}


@pytest.mark.parametrize(
    "metadata",
    [
        {"cellblock": None},
        {"cellblock": [1]},
        {"cellblock": {"label": {}, "source": [], "name": 7}},
        {"cellblock": {"source": "stdout"}},
    ],
    ids=str,
)
def test_a_caption_of_the_wrong_shape_is_none(metadata: dict[str, Any]) -> None:
    [plot] = assembled([display({"image/png": PNG}, metadata)]).plots
    assert plot.keys() == {"type", "data", "source"}
    assert plot["source"] == "display"


def test_numbers_that_json_lacks_are_null_or_words() -> None:
    values = b"[[NaN, 1e999], [-Infinity, -1" + b"0" * 280 + b".0e99]]"
    wire = table().bundle[TABLE].replace(b'[[1, 2], ["x", null]]', values)
    result = assembled([display({TABLE: wire})])
    assert result.tables[0]["data"] == [
        {"a": None, "b": "-Infinity"}, {"a": "Infinity", "b": "-Infinity"},
    ]  # fmt: skip


def test_doubles_beside_a_table_are_its_columns_to_the_last_bit() -> None:
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf]
    floats = struct.pack("<14d", *values, *range(7))
    result = assembled(
        [table(floats=floats, columns=[*"abc"], rows=7, values=[None, [*"tuvwxyz"], None], shape=[7, 3])]
    )
    assert result.notices == []
    shown = [row["a"] for row in result.tables[0]["data"]]
    assert struct.pack("<4d", *shown[:4]) == floats[:32]
    assert shown[4:] == [None, "Infinity", "-Infinity"]
    assert [(row["b"], row["c"]) for row in result.tables[0]["data"]][:2] == [("t", 0.0), ("u", 1.0)]


def test_numbers_are_read_alike_in_one_go_and_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"[1.5, 1e-400, 2e99, -0.0, 123456789012345678901234567890]"
    quick = plain.parse(data)
    monkeypatch.setattr(plain, "QUICK_BYTES", 0)
    assert repr(plain.parse(data)) == repr(quick)


def test_the_text_of_a_figure_is_strict_json_too() -> None:
    figure = b'{"data": [{"y": [NaN, 1.0], "name": "\\ud83d"}], "layout": {"\\udc00": 1}}'
    [plot] = assembled([display({PLOTLY: figure})]).interactive_plots
    expected = {"data": [{"y": [None, 1.0], "name": "�"}], "layout": {"�": 1}}
    assert plot["figure"] == json.loads(plot["json"]) == expected


def test_halves_of_characters_are_replaced_wherever_they_stand() -> None:
    half = "\ud800"
    result = assembled(
        [
            table(name=half, columns=[half, "b"], rows=1, values=[[[{half: half}]], [half]], shape=[1, 2]),
            shown("text", half, half),
            image(half, "display"),
            plotly(half, label=half),
        ]
    )
    assert half not in result.model_dump_json()
    assert result.tables[1]["data"] == [{"�": [{"�": "�"}], "b": "�"}]
    assert (result.plots[0]["label"], result.interactive_plots[0]["name"]) == ("�", "�")


def test_json_that_would_fill_the_memory_is_not_read() -> None:
    containers = b'{"data": [' + b"[]," * plain.CONTAINERS + b"[]]}"
    result = assembled([display({PLOTLY: containers}), plotly()])
    assert (len(result.interactive_plots), len(result.notices)) == (1, 1)


def test_all_json_of_a_cell_shares_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = plotly().bundle[PLOTLY]
    monkeypatch.setattr(artefacts.Budget, "LIMIT_BYTES", 3 * len(wire))
    result = assembled([plotly() for _ in range(5)])
    assert (len(result.interactive_plots), len(result.notices)) == (3, 2)


def test_displays_pieces_and_notices_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "DISPLAYS", 10)
    monkeypatch.setattr(assembly, "PIECES", 20)
    monkeypatch.setattr(assembly, "NOTICES", 5)
    outputs: list[Output] = [display({}) for _ in range(9)]
    outputs += [shown() for _ in range(30)]
    for number in range(100):
        outputs += [text(f"{number}\n"), text("e", "stderr")]
    result = assembled(outputs)
    assert (len(result.tables), len(result.notices)) == (1, 5)
    assert len(result.outputs) == 11
    assert result.stdout == "".join(f"{number}\n" for number in range(100))
    last = {item["field"]: item["end"] for item in result.outputs if "end" in item}
    assert last == {"stdout": len(result.stdout), "stderr": 100}


@pytest.mark.parametrize("size", [1, 7, 4_096])
def test_time_grows_with_the_text_and_not_faster(size: int) -> None:
    """Ten million characters in pieces of any size, alternating: far below what a square would take."""
    begin = time.monotonic()
    count = min(10_000_000 // size, 200_000)
    pieces: list[Output] = [Stream(at, "stderr" if at % 2 else "stdout", b"x" * size) for at in range(count)]
    assembled(pieces)
    assert time.monotonic() - begin < 20


def test_noise_is_never_an_exception() -> None:
    noise = random.Random(7)
    seeds = [table().bundle, table(source="display").bundle, shown().bundle, plotly().bundle, report().bundle]
    for _ in range(3_000):
        bundle = noise.choice(seeds)
        mime = next(iter(bundle.parts))
        data = bytearray(bundle[mime])
        for _ in range(noise.randrange(1, 6)):
            at = noise.randrange(len(data))
            if noise.random() < 0.5:
                data[at] = noise.choice(b'[]{}",:0-eE\\ud8 n\xff')
            else:
                del data[at : at + noise.randrange(1, 8)]
        outputs: list[Output] = [display({mime: bytes(data)}), text(data.decode("latin-1"))]
        assert isinstance(outputs[0], Display)
        assembled(outputs, Raised("ValidationError", "m"))


def test_reports_do_not_count_as_displays() -> None:
    assert reports.MIME in report().bundle
    assert assembled([report()]).outputs == []
