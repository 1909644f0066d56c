"""The comparison must see what an engine does wrong, and nothing else."""

from __future__ import annotations

import base64
import copy
import json
import struct
import time
from typing import Any

import pytest

from bench.compare import faults, report
from bench.compare.cells import cells_of, differences
from bench.compare.outputs import explain, forms_of
from bench.compare.volatile import settle


def code(*outputs: dict[str, Any], source: str = "x", count: int | None = 1) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "execution_count": count, "outputs": list(outputs)}


def notebook(*cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": list(cells)}


def stream(name: str, text: str | list[str]) -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def result(text: str, **more: str) -> dict[str, Any]:
    return {"output_type": "execute_result", "execution_count": 1, "data": {"text/plain": text, **more}}


def error(name: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": name, "evalue": "", "traceback": []}


def png(width: int, height: int, pixels: bytes = b"") -> str:
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return base64.b64encode(start + bytes(9) + pixels).decode()


FIGURE: dict[str, Any] = {
    "output_type": "display_data",
    "data": {"text/plain": "<Figure>", "image/png": png(8, 4)},
}


def aspects(left: dict[str, Any], right: dict[str, Any]) -> set[str]:
    """In what two runs of a cell differ."""
    found = differences(cells_of(notebook(left)), cells_of(notebook(right)))
    return {difference.aspect for difference in found}


@pytest.mark.parametrize("fault", [fault.name for fault in faults.FAULTS])
def test_every_planted_fault_is_found_in_its_cell_and_nowhere_else(fault: str) -> None:
    (finding,) = (found for found in faults.plant_all(faults.specimen()) if found.fault == fault)
    assert finding.cell is not None
    assert finding.found


def test_a_fault_that_the_comparison_overlooks_is_reported_as_not_found() -> None:
    blind = faults.Fault("nothing at all", frozenset({"order"}), lambda outputs: outputs)
    assert not faults._plant(blind, faults.specimen()).found


def test_a_run_agrees_with_itself() -> None:
    specimen = faults.specimen()
    assert differences(cells_of(specimen), cells_of(copy.deepcopy(specimen))) == []


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (code(), code(error("ValueError")), {"status", "error", "types", "order"}),
        (code(error("KeyError")), code(error("ValueError")), {"error", "order"}),
        (code(count=1), code(count=None), {"status"}),
        (code(result("1")), code(result("2")), {"plain", "order"}),
        (code(result("1")), code(result("1", **{"text/html": "<b>1</b>"})), {"types", "content", "order"}),
        (
            code(result("1", **{"text/html": "<b>1</b>"})),
            code(result("1", **{"text/html": "<b>2</b>"})),
            {"content"},
        ),
        (code(stream("stdout", "a")), code(stream("stderr", "a")), {"stdout", "stderr", "order"}),
        (code(result("1"), result("2")), code(result("2"), result("1")), {"plain", "order"}),
        (code(FIGURE, result("1")), code(result("1"), FIGURE), {"types", "plain", "order"}),
        (code(FIGURE), code({**FIGURE, "output_type": "execute_result"}), {"types", "order"}),
        (code(FIGURE), code({**FIGURE, "metadata": {"image/png": {"width": 9}}}), {"content"}),
        (code(FIGURE), code({**FIGURE, "data": {**FIGURE["data"], "image/png": png(9, 4)}}), {"content"}),
    ],
)
def test_each_difference_shows_in_its_aspects(
    left: dict[str, Any], right: dict[str, Any], expected: set[str]
) -> None:
    assert aspects(left, right) == expected


def test_pictures_of_one_size_differ_in_their_bytes_and_not_in_their_line_breaks() -> None:
    one, other = (code({**FIGURE, "data": {"image/png": png(8, 4, pixels)}}) for pixels in (b"a", b"b"))
    broken = code({**FIGURE, "data": {"image/png": [png(8, 4, b"a"), "\n"]}})
    assert aspects(one, other) == {"content"}
    assert aspects(one, broken) == set()
    assert aspects(code({**FIGURE, "data": {"image/png": "?"}}), one) == {"content"}


def explained(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> list[str]:
    return explain(forms_of(left), forms_of(right))


def test_a_difference_in_mime_types_names_the_output_and_the_types() -> None:
    table = result("1", **{"text/html": "<b>1</b>"})
    latex = result("1", **{"text/latex": "$1$"})
    assert explained([FIGURE, table], [FIGURE, latex]) == [
        "output 2: lacks text/html, has text/latex besides"
    ]
    assert explained([result("1")], [error("KeyError")]) == [
        "output 1: error instead of execute_result, lacks text/plain"
    ]


def test_an_output_missing_or_too_much_is_no_difference_in_those_that_follow() -> None:
    assert explained([FIGURE, result("1")], [result("1")]) == [
        "output 1: missing: display_data image/png text/plain"
    ]
    assert explained([result("1")], [result("1"), FIGURE]) == [
        "output 2: too much: display_data image/png text/plain"
    ]


def test_many_outputs_that_differ_alike_are_said_once() -> None:
    bare = {**FIGURE, "data": {"text/plain": "<Figure>"}}
    assert explained([FIGURE] * 25, [bare] * 25) == ["outputs 1 to 25 (25 of them): lacks image/png"]
    assert explained([error("KeyError")], [error("KeyError"), FIGURE, FIGURE]) == [
        "outputs 2 to 3 (2 of them): too much: display_data image/png text/plain"
    ]


def test_streams_are_no_outputs_of_their_own() -> None:
    assert explained([stream("stdout", "a"), FIGURE], [FIGURE, stream("stderr", "a")]) == []


def test_how_a_stream_is_cut_makes_no_difference() -> None:
    one = code(stream("stdout", "a\nb\n"), stream("stderr", "c\n"))
    other = code(stream("stdout", "a\n"), stream("stdout", ["b\n"]), stream("stderr", "c\n"))
    assert aspects(one, other) == set()


def test_a_stream_cut_around_another_output_is_a_wrong_order_only() -> None:
    one = code(stream("stdout", "a\nb\n"), result("1"))
    other = code(stream("stdout", "a\n"), result("1"), stream("stdout", "b\n"))
    assert aspects(one, other) == {"order"}


def test_cells_without_code_do_not_count() -> None:
    cells = cells_of(notebook(code(source=" \n"), {"cell_type": "markdown", "source": "x"}, code()))
    assert [cell.number for cell in cells] == [1]


def test_runs_of_different_notebooks_are_refused() -> None:
    with pytest.raises(ValueError, match="not two runs of the same notebook"):
        differences(cells_of(notebook(code(source="a"))), cells_of(notebook(code(source="b"))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<object at 0x7f12ab34cd50>", "<object at 0x7f00deadbee0>"),
        ("RandomState(MT19937) at 0x7F8EA3977740", "RandomState(MT19937) at 0x7F251F316540"),
        ("/tmp/ipykernel_12/3.py:3: Warning", "/tmp/ipykernel_99/44.py:3: Warning"),
        ("/a/lib/python3.11/site-packages/numpy/x.py:1", "/b/site-packages/numpy/x.py:1"),
        (
            "1.23 ms ± 4.5 μs per loop (mean ± std. dev. of 7 runs, 1,000 loops each)",
            "867 ns ± 1 ns per loop (mean ± std. dev. of 7 runs, 1 loop each)",
        ),
        (
            "CPU times: user 3 ms, sys: 0 ns, total: 3 ms\nWall time: 3.2 ms\n",
            "CPU times: user 1 ms, sys: 1 ns, total: 2 ms\nWall time: 1 μs\n",
        ),
        ("/tmp/compare-a1_b2/workspace/x.csv", "/workspace/x.csv"),
        ("> \x1b[32m/tmp/compare-a1_b2/workspace/mod.py\x1b[39m", "> \x1b[32m/workspace/mod.py\x1b[39m"),
        ("/a/env/bin/python: No module named pip", "/b/other-env/bin/python3.11: No module named pip"),
        ("display_id=d7158cd478077b7fe890d2c7017b72fb>", "display_id=cdcdde658c2cce46f42718711d7d710a>"),
        (
            '<div id="8279a814-bdce-4966-a3f1-3922536c4fd6">',
            '<div id="07747eaa-f0e5-4b88-99af-717f7014e9a7">',
        ),
        ("#T_1c9f2_row0_col0 { color: red }", "#T_ab03e_row0_col0 { color: red }"),
        (
            "\r  0%|  | 0/4 [00:00<?, ?it/s]\r100%|██| 4/4 [00:01<00:00,  3.98it/s]\n",
            "\r 50%|█ | 2/4 [00:00<00:00, 4.1Mit/s]\r100%|██| 4/4 [00:00<00:00,  7.9Mit/s]\n",
        ),
        ("100%|██| 4/4 [00:10<00:00,  2.58s/it]", "100%|██| 4/4 [00:09<00:00,  2.31s/it]"),
        ("0it [00:00, ?it/s]", "0it [00:01, ?it/s]"),
        ("<dc:date>2026-11-26T23:19:15.346275</dc:date>", "<dc:date>2025-01-01T00:00:00</dc:date>"),
        ("-rw-r--r-- 1 u g 22K Nov 22 22:01 a.png", "-rw-r--r-- 1 u g 22K Jan  1 00:00 a.png"),
    ],
)
def test_what_no_two_runs_share_makes_no_difference(one: str, other: str) -> None:
    assert settle(one) == settle(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/tmp/ipykernel_12/3.py:3: Warning", "/tmp/ipykernel_12/3.py:4: Warning"),
        ("x = 0x1f", "x = 0x20"),
        ("0xDEADBEEF", "0xDEADBEE0"),
        ("1.2 ms", "1.3 ms"),
        ("a\n", "a\r\n"),
        ("a\r\n", "a\r\r\n"),
        ("b\rc\n", "b\n"),
        ("100%|██| 4/4 [00:01<00:00,  3.98it/s]", "100%|██| 5/5 [00:01<00:00,  3.98it/s]"),
        ("/tmp/compare-a1_b2/workspace/x.csv", "/workspace/y.csv"),
        ("/data/workspace/x.csv", "/workspace/x.csv"),
        # A digest, and an id that is made from a name: they say something.
        ("d7158cd478077b7fe890d2c7017b72fb", "cdcdde658c2cce46f42718711d7d710a"),
        ("886313e1-3b8a-5372-9b90-0c9aee199e5d", "6fa459ea-ee8a-3ca4-894e-db77e160355e"),
        ("site-packages/numpy/x.py:1", "site-packages/numpy/y.py:1"),
    ],
)
def test_what_is_not_volatile_still_counts(one: str, other: str) -> None:
    assert settle(one) != settle(other)


@pytest.mark.parametrize("piece", ["aB3/+x9d", "word ", "/a/b", "0x7f 12 ms <"])
def test_settling_a_long_line_costs_by_its_length(piece: str) -> None:
    def seconds(size: int) -> float:
        line = piece * (size // len(piece))
        started = time.process_time()
        settle(line)
        return time.process_time() - started

    seconds(1_000)
    short, long = (min(seconds(size) for _ in range(3)) for size in (20_000, 160_000))
    # By its square it would be 64 times as much.
    assert long < 30 * max(short, 1e-4)


def test_noise_is_left_out_in_its_aspect_and_nowhere_else() -> None:
    runs = [notebook(code(result("0.1"))), notebook(code(result("0.2")))]
    random = report.judge("n", runs, notebook(code(result("0.3"))))
    assert (random.agreeing, random.disagreeing, random.noisy_cells) == (1, 0, 1)
    failed = report.judge("n", runs, notebook(code(error("ValueError"))))
    assert (failed.agreeing, failed.disagreeing) == (0, 1)


def test_the_table_names_cell_aspect_and_both_texts() -> None:
    verdict = report.judge("chapter", [notebook(code(result("1")))] * 2, notebook(code(result("2"))))
    text = report.text([verdict], "ipykernel", "cellblock")
    assert "chapter, cell 1, plain: `1` ≠ `2`" in text
    assert "0.00 % of 1 cells agree" in text


def test_a_difference_that_cannot_be_seen_is_spelled() -> None:
    left, right = notebook(code(stream("stdout", "a\r\n"))), notebook(code(stream("stdout", "a\n")))
    listed = report.text([report.judge("chapter", [left, left], right)], "ipykernel", "cellblock")
    assert "chapter, cell 1, stdout: `a\\r` ≠ `a`" in listed


def test_of_a_cell_that_fails_on_one_side_only_that_is_listed() -> None:
    left, right = notebook(code(FIGURE)), notebook(code(error("KeyError")))
    listed = report.text([report.judge("chapter", [left, left], right)], "ipykernel", "cellblock")
    assert "chapter, cell 1, status: `succeeded` ≠ `failed`" in listed
    assert "chapter, cell 1, error: (nothing) ≠ `KeyError`" in listed
    assert "chapter, cell 1, types" not in listed


def test_the_table_counts_outputs_by_their_mime_types() -> None:
    left = notebook(code(FIGURE, result("1")), code(FIGURE))
    right = notebook(code(FIGURE, result("1", **{"text/html": "1"})), code(FIGURE))
    text = report.text([report.judge("chapter", [left, left], right)], "ipykernel", "cellblock")
    assert "      2      2  display_data image/png text/plain\n" in text
    assert "      1      0  execute_result text/plain\n" in text
    assert "66.67 % of 3 outputs have the same type and mime types" in text
    assert "chapter, cell 1, types: output 2: has text/html besides\n" in text


def test_everything_that_was_found_can_be_read_by_a_program() -> None:
    left, right = notebook(code(FIGURE)), notebook(code(FIGURE, FIGURE))
    verdicts = [report.judge("chapter", [left, left], right), report.Verdict("other", problem="no kernel")]
    document = json.loads(json.dumps(report.as_json(verdicts, "ipykernel", "cellblock")))
    chapter, other = document["notebooks"]
    assert document["outputs"] == document["outputs_alike"] == {"display_data image/png text/plain": 1}
    assert {difference["aspect"] for difference in chapter["found"]} == {"types", "plain", "content", "order"}
    assert (other["cells"], other["problem"]) == (0, "no kernel")


def test_outputs_that_no_two_runs_of_the_peer_share_are_not_counted() -> None:
    runs = [notebook(code(FIGURE)), notebook(code())]
    verdict = report.judge("n", runs, notebook(code()))
    assert (verdict.outputs.total(), verdict.agreeing) == (0, 1)
