"""From outputs to a result: what stands in which field, in which order."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import pytest

import cellblock
from cellblock import Cause, ClearOutput, Error, LimitHit, Notice, Output, Raised, Truncated, WorkerDied
from cellblock._service.artefacts import PLOTLY
from cellblock._service.captured import LIMIT

from .assembled import (
    NO_ISSUES,
    PNG,
    assembled,
    display,
    frame,
    image,
    plotly,
    report,
    shown,
    table,
    text,
)


def error(name: str, value: str, frames: Any = (), causes: Any = ()) -> Error:
    return Error(0, name, value, (), tuple(frames), tuple(causes))


def test_the_json_of_nothing_is_the_old_services_and_more_stands_behind_it() -> None:
    result = assembled([report()])
    assert result.model_dump_json().startswith(
        '{"status":"success","stdout":"","stderr":"","execution_time":0.0,'
        '"timestamp":"2026-11-22T19:02:33.513365",'
        '"plots":[],"tables":[],"images":[],"interactive_plots":[],"error_type":null,"error_message":null,'
        '"traceback":null,"warnings":[],"lint_report":{"engine":"builtin","issues":[]},"autofix_report":null,'
        '"outcome":'
    )
    assert list(result.model_dump())[15:] == [
        "outcome", "frames", "checkpoint", "limits", "syntax_error", "outputs", "notices",
    ]  # fmt: skip
    assert result.outcome == {
        "kind": "ok", "sentence": "the code ran to its last line", "limit": None, "lost": None,
    }  # fmt: skip
    assert result.limits == {
        "wall_seconds": 5.0,
        "usage": {
            "wall_seconds": 0.5,
            "queued_seconds": 0.125,
            "cpu_seconds": 0.25,
            "memory_peak_bytes": 1 << 20,
            "written_bytes": 7,
        },
    }
    assert result.checkpoint is None


def test_a_result_dumps_as_its_pydantic_ancestor_did() -> None:
    result = assembled([report()])
    assert result.dict() == result.model_dump()
    assert result.json() == result.model_dump_json()
    assert result.model_dump()["status"] is cellblock.ExecutionStatus.SUCCESS
    assert result.model_dump()["timestamp"] == datetime(2026, 11, 22, 19, 2, 33, 513365)
    plain = result.model_dump(mode="json")
    assert (plain["status"], plain["timestamp"]) == ("success", "2026-11-22T19:02:33.513365")
    result.model_dump()["tables"].append({})
    assert result.tables == []


def test_tables_come_by_source_and_keep_their_order_within() -> None:
    outputs: list[Output] = [
        shown("json", "J"),
        table("early", "variable"),
        table("displayed_result", "display", label="T"),
        shown("html", "H"),
        text("   a  b\n0  1  3\n1  2  4\n"),
    ]
    tables = assembled([report(), *outputs]).tables
    assert [(entry["source"], entry.get("type")) for entry in tables] == [
        ("display", "table"), ("display", "json"), ("display", "html"), ("variable", None), ("stdout", None),
    ]  # fmt: skip


def test_a_table_has_its_rows_by_column() -> None:
    [variable, displayed] = (
        assembled([table(source=source)]).tables[0] for source in ("variable", "display")
    )
    assert variable == {
        "name": "df",
        "shape": [2, 2],
        "columns": ["a", "b"],
        "data": [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
        "html": "<table></table>",
        "info": {"dtypes": {"a": "int64", "b": "object"}, "memory_usage": {"Index": 128, "a": 16, "b": 16}},
        "source": "variable",
    }
    assert displayed == variable | {"source": "display", "label": "Table 1", "type": "table"}


def test_a_cut_table_says_what_the_whole_has() -> None:
    [entry] = assembled([table(shape=[100_000, 8], truncated=True)]).tables
    assert (entry["truncated"], entry["total_rows"], entry["total_columns"]) == (True, 100_000, 8)
    assert entry["shape"] == [100_000, 8]


def test_columns_keep_their_type_as_keys() -> None:
    result = assembled([table(columns=[0, 1.5], rows=1, values=[[1], [2]])])
    assert result.tables[0]["data"] == [{0: 1, 1.5: 2}]
    assert '"data":[{"0":1,"1.5":2}]' in result.model_dump_json()


def test_what_was_displayed_comes_before_what_was_captured() -> None:
    plots = assembled([image(), image("Figure 1: E", "display"), image()]).plots
    assert [(plot["source"], plot.get("label")) for plot in plots] == [
        ("display", "Figure 1: E"), ("auto-captured", None), ("auto-captured", None),
    ]  # fmt: skip
    assert plots[0] == {
        "type": "image",
        "data": base64.b64encode(PNG).decode(),
        "label": "Figure 1: E",
        "source": "display",
    }


def test_a_png_says_how_large_it_is() -> None:
    header = b"\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big")
    [plot] = assembled([display({"image/png": PNG[:8] + header})]).plots
    assert (plot["width"], plot["height"]) == (640, 480)


def test_a_plotly_figure_is_its_text_and_what_it_says() -> None:
    figure = b'{"data": [{"y": [1.50]}], "layout": {}}'
    [captured, labelled] = assembled(
        [
            display(
                {PLOTLY: figure}, {"cellblock": {"name": "fig", "label": None, "source": "auto-captured"}}
            ),
            plotly("other", label="Figure 2", source="display"),
        ]
    ).interactive_plots
    assert captured == {
        "name": "fig",
        "figure": {"data": [{"y": [1.5]}], "layout": {}},
        "json": figure.decode(),
        "source": "auto-captured",
    }
    assert (labelled["name"], labelled["label"], labelled["source"]) == ("other", "Figure 2", "display")


@pytest.mark.parametrize(
    ("parts", "field", "what"),
    [
        ({"text/plain": b"<h>", "text/html": b"<b>h</b>"}, "tables", {"type": "html", "content": "<b>h</b>"}),
        ({"image/svg+xml": b"<svg/>", "text/plain": b"s"}, "tables", {"type": "html", "content": "<svg/>"}),
        ({"text/latex": b"$x$", "text/plain": b"x"}, "tables", {"type": "text", "content": "$x$"}),
        ({"text/plain": b"A(1)"}, "tables", {"type": "text", "content": "A(1)"}),
        ({"application/json": {"a": 1}}, "tables", {"type": "json", "content": '{"a":1}'}),
        ({"image/png": PNG, "text/plain": b"fig"}, "plots", {"type": "image"}),
        ({"image/jpeg": b"\xff\xd8\xff\xe0"}, "plots", {"type": "image"}),
        ({PLOTLY: {"data": []}, "text/html": b"<div>"}, "interactive_plots", {"name": "figure"}),
    ],
)
def test_what_a_library_displays_is_taken_by_its_best_form(
    parts: dict[str, Any], field: str, what: dict[str, Any]
) -> None:
    result = assembled([display(parts)])
    [entry] = getattr(result, field)
    assert entry["source"] == "display"
    assert entry.items() >= what.items()
    assert len(result.tables) + len(result.plots) + len(result.interactive_plots) == 1


def test_outputs_tell_the_order_in_which_they_came() -> None:
    result = assembled(
        [
            report(),
            text("one\n"),
            text("two\n"),
            image(None, "display"),
            text("oops\n", "stderr"),
            shown("json"),
            text("three\n"),
            table("displayed_result", "display"),
            plotly(),
        ]
    )
    seen = [
        getattr(result, item["field"])[item["start"] : item["end"]]
        if "start" in item
        else (item["field"], getattr(result, item["field"])[item["index"]].get("type"))
        for item in result.outputs
    ]
    assert seen == [
        "one\ntwo\n", ("plots", "image"), "oops\n", ("tables", "json"), "three\n", ("tables", "table"),
        ("interactive_plots", None),
    ]  # fmt: skip


def test_a_character_written_in_two_pieces_is_one() -> None:
    result = assembled([cellblock.Stream(0, "stdout", part) for part in (b"\xc3", b"\xa4\xff", b"\xe2\x82")])
    assert result.stdout == "ä��"
    assert result.outputs == [{"field": "stdout", "start": 0, "end": 3}]


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_long_text_is_cut_in_the_middle_and_says_so(name: str) -> None:
    pieces: list[Output] = [text(f"begin{'x' * 999_995}", name), image(), *[text("x" * 1_000_000, name)] * 8]
    result = assembled([*pieces, text("y" * 499_900 + "end", name)])
    shown = getattr(result, name)
    assert LIMIT - 100 < len(shown) <= LIMIT
    assert shown.startswith("beginx")
    assert shown.endswith("yend")
    missing = 9_499_903 - 500_000 - 499_900
    assert f"\n… [{missing} of 9499903 characters are left out here] …\n" in shown
    first, _, last = result.outputs
    assert (first["start"], first["end"]) == (0, last["start"])
    assert last["end"] == len(shown)


def test_a_text_at_its_limit_is_whole() -> None:
    assert assembled([text("x" * (LIMIT - 1)), text("y")]).stdout == "x" * (LIMIT - 1) + "y"


def test_carriage_returns_stay_as_they_came() -> None:
    assert assembled([text("10%\r20%\r"), text("100%\n")]).stdout == "10%\r20%\r100%\n"


def test_what_cellblock_dropped_is_marked_where_it_is_missing() -> None:
    result = assembled(
        [
            text("head"),
            Truncated(1, "stdout", 9, "nobody read"),
            text("tail"),
            Truncated(2, None, 77, "a cap"),
        ]
    )
    assert result.stdout == "head\n… [9 bytes are left out here: nobody read] …\ntail"
    assert [notice["text"] for notice in result.notices] == ["77 bytes of displays are left out: a cap"]


def test_an_error_keeps_all_that_came_before_it() -> None:
    raised = error("ZeroDivisionError", "division by zero", [frame(3, "1/0")])
    outputs: list[Output] = [report(), text("O\n"), text("E\n", "stderr"), table(), image(), raised]
    result = assembled(outputs, Raised("ZeroDivisionError", "division by zero"))
    assert (result.status, result.error_type, result.error_message) == (
        "error", "ZeroDivisionError", "division by zero",
    )  # fmt: skip
    assert result.traceback == (
        "Traceback (most recent call last):\n"
        '  File "<cell 3>", line 3, in <module>\n'
        "    1/0\n"
        "ZeroDivisionError: division by zero\n"
    )
    assert result.stdout == "O\n"
    assert result.stderr == f"E\n\n\nFULL PYTHON STACK TRACE:\n{result.traceback}"
    assert (len(result.tables), len(result.plots)) == (1, 1)
    assert result.frames == [
        {
            "cell": 3,
            "file": "<cell 3>",
            "line": 3,
            "function": "<module>",
            "code": "1/0",
            "execution": f"cell-3-{'0' * 32}",
        }
    ]


def test_a_traceback_has_its_causes_in_pythons_words_and_no_frames_of_ours() -> None:
    library = frame(9, None, "loads", cell=None, file="/lib/json.py")
    ours = frame(40, "raise EOFError", "input", cell=None, file="/opt/x/cellblock_worker/stdin.py")
    gap = frame(0, None, "7 frames left out", cell=None, file="…")
    causes = [
        Cause("KeyError", "'x'", True, (frame(2, "d['x']", "f", cell=1),)),
        Cause("EOFError", "", False, (frame(1, "input()"), ours)),
    ]
    raised = error("ValueError", "no x\nat all", [frame(7, "raise", cell=12), gap, library], causes)
    result = assembled([raised], Raised("ValueError", "no x\nat all"))
    assert result.traceback == (
        "Traceback (most recent call last):\n"
        '  File "<cell 3>", line 1, in <module>\n'
        "    input()\n"
        "EOFError\n"
        "\nDuring handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n"
        '  File "<cell 1>", line 2, in f\n'
        "    d['x']\n"
        "KeyError: 'x'\n"
        "\nThe above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n"
        '  File "<cell 12>", line 7, in <module>\n'
        "    raise\n"
        "  [7 frames left out]\n"
        '  File "/lib/json.py", line 9, in loads\n'
        "ValueError: no x\nat all\n"
    )


def test_refused_code_is_a_validation_error() -> None:
    message = "Syntax Error on line 2: '(' was never closed"
    refused: dict[str, Any] = {
        "message": message,
        "line": 2,
        "column": 6,
        "suggestions": ["Close it", "Or not"],
        "syntax": True,
    }
    result = assembled([report(refused)], Raised("ValidationError", message))
    assert (result.status, result.error_type, result.error_message) == ("error", "ValidationError", message)
    assert result.stderr == (f"CODE VALIDATION FAILED:\n{message}\n\nSUGGESTIONS:\n  • Close it\n  • Or not")
    assert result.traceback == (
        "Validation failed - code did not pass syntax checks\n\n"
        f"{message}\n\nCommon fixes:\n  • Close it\n  • Or not"
    )
    assert result.syntax_error == {"line": 2, "column": 6}
    anti_pattern = refused | {"syntax": False, "suggestions": []}
    result = assembled([report(anti_pattern)], Raised("ValidationError", message))
    assert result.stderr == f"CODE VALIDATION FAILED:\n{message}"
    assert result.syntax_error is None


def test_only_code_that_did_not_run_is_refused() -> None:
    refused: dict[str, Any] = {
        "message": "no",
        "line": None,
        "column": None,
        "suggestions": [],
        "syntax": True,
    }
    result = assembled([report(refused), text("ran\n")])
    assert (result.status, result.stderr, result.syntax_error) == ("success", "", None)
    # A library's exception of that name.
    raised = error("ValidationError", "1 error", [frame(1, "Model(x=1)")])
    result = assembled([report(), raised], Raised("ValidationError", "1 error"))
    assert result.traceback is not None
    assert 'File "<cell 3>", line 1' in result.traceback


@pytest.mark.parametrize(
    ("end", "lost", "status", "kind", "message"),
    [
        (
            cellblock.TimedOut(5.0), None, "error", "TimeoutError",
            "the cell was stopped: the wall time of 5 s was over; the variables are kept",
        ),
        (
            LimitHit("memory", 100, 101), ("df", "x"), "error", "MemoryError",
            "the cell was stopped: limit hit: 101 bytes of memory, 100 are allowed; "
            "the next cell gets a new worker with what is saved; gone with this one: df, x",
        ),
        (
            LimitHit("cpu", 100, 101), None, "error", "ResourceLimitError",
            "the cell was stopped: limit hit: 101 ms of processor time, 100 are allowed; "
            "the variables are kept",
        ),
        (
            WorkerDied("exited", code=7), (), "error", "WorkerDied",
            "the worker exited with code 7; "
            "the next cell gets a new worker; there were no variables to lose",
        ),
        (
            cellblock.Interrupted(), None, "cancelled", "KeyboardInterrupt",
            "the cell was interrupted; the variables are kept",
        ),
        (
            cellblock.Cancelled("it waited"), None, "cancelled", "Cancelled",
            "the cell was not run: it waited",
        ),
    ],
)  # fmt: skip
def test_an_end_from_outside_says_what_happened_and_what_became_of_the_variables(
    end: cellblock.End, lost: tuple[str, ...] | None, status: str, kind: str, message: str
) -> None:
    interrupted = error("KeyboardInterrupt", "", [frame(2, "while True: pass")])
    result = assembled([report(), text("before\n"), interrupted], end, lost=lost)
    assert (result.status, result.error_type, result.error_message) == (status, kind, message)
    assert result.traceback is not None
    assert result.traceback.endswith(f"    while True: pass\n{kind}: {message}\n")
    assert result.stdout == "before\n"
    assert ("FULL PYTHON STACK TRACE" in result.stderr) == (status == "error")
    assert result.outcome["sentence"] == message
    assert result.outcome["lost"] == (None if lost is None else list(lost))


def test_a_limit_has_its_figures() -> None:
    limits = [
        assembled([], end).outcome["limit"] for end in (cellblock.TimedOut(5), LimitHit("disk", 10, 12))
    ]
    assert limits == [
        {"name": "wall", "allowed": 5, "reached": 0.5, "unit": "s"},
        {"name": "disk", "allowed": 10, "reached": 12, "unit": "bytes"},
    ]


def test_many_lost_names_are_counted() -> None:
    lost = tuple(f"v{number}" for number in range(25))
    result = assembled([], WorkerDied("shim_lost"), lost=lost)
    assert result.error_message is not None
    assert result.error_message.endswith("v18, v19 and 5 more")
    assert result.outcome["lost"] == list(lost)
    assert result.traceback == f"WorkerDied: {result.error_message}\n"


def test_lost_variables_are_told_by_name() -> None:
    notice = Notice(0, "variables_lost", "the worker died between cells", ("df", "x"))
    assert assembled([notice, report()]).notices == [
        {"topic": "variables_lost", "text": "the worker died between cells", "names": ["df", "x"]}
    ]


def test_without_capture_there_are_texts_alone() -> None:
    printed = text("   a  b\n0  1  3\n1  2  4\nCL hit lower bound\n")
    outputs: list[Output] = [report(), printed, table(), image(), display({"text/html": b"<b>"})]
    result = assembled(outputs, capture=False)
    assert (result.tables, result.plots, result.warnings) == ([], [], [])
    assert result.stdout == printed.text
    assert result.lint_report == NO_ISSUES
    assert [item["field"] for item in result.outputs] == ["stdout"]


def test_statistical_doubts_are_warnings() -> None:
    assert len(assembled([text("CL hit lower bound\n")]).warnings) == 1


def test_reports_are_handed_on() -> None:
    fixed = {
        "enabled": True, "applied": True, "original_code": "a", "fixed_code": "b", "diff": "d",
        "changes": [{"rule_id": "DA1101", "message": "m", "line": 1}], "lint_before": {}, "lint_after": {},
    }  # fmt: skip
    result = assembled([report(autofix_report=fixed)])
    assert (result.lint_report, result.autofix_report) == (NO_ISSUES, fixed)
    assert assembled([]).lint_report is None


def test_an_update_takes_the_place_of_what_it_updates() -> None:
    result = assembled(
        [
            display({"text/html": b"0 %"}, display_id="bar"),
            image(),
            display({"text/html": b"100 %"}, display_id="bar", update=True),
            display({"text/html": b"of another cell"}, display_id="unknown", update=True),
        ]
    )
    assert [entry["content"] for entry in result.tables] == ["100 %"]
    assert [item["field"] for item in result.outputs] == ["tables", "plots"]


def test_what_is_cleared_is_gone_and_waiting_keeps_it_until_there_is_more() -> None:
    assert assembled([text("old"), image(), ClearOutput(0, False), text("new")]).stdout == "new"
    result = assembled([text("old"), image(None, "display"), ClearOutput(0, True), text("new")])
    assert (result.stdout, result.plots) == ("new", [])
    # What is captured at the end does not take the last state of a loop away.
    result = assembled([text("last"), ClearOutput(0, True), table(), image()])
    assert (result.stdout, len(result.tables), len(result.plots)) == ("last", 1, 1)


def test_a_traceback_that_was_shown_while_the_code_went_on_is_text() -> None:
    shown = error("ValueError", "shown", [frame(1, "f()")])
    result = assembled([shown, text("on\n")])
    assert result.status == "success"
    assert result.stderr.endswith('File "<cell 3>", line 1, in <module>\n    f()\nValueError: shown\n')
    result = assembled([shown, error("KeyError", "'k'", [frame(2, "g()")])], Raised("KeyError", "'k'"))
    assert "ValueError: shown\n\n\nFULL PYTHON STACK TRACE:\n" in result.stderr
    assert [item["line"] for item in result.frames] == [2]


def test_json_is_one_line_that_any_reader_takes() -> None:
    result = assembled([text("a\u2028b\n"), table(values=[["\ud83d", 1], ["\U0001f600", 2]])])
    assert json.loads(result.model_dump_json())["tables"][0]["data"][0] == {"a": "�", "b": "😀"}
