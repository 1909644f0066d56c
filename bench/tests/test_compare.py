"""The comparison must see what an engine does wrong, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bench.compare import faults, report
from bench.compare.cells import cells_of, differences
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
        (code(), code(error("ValueError")), {"status", "error", "kinds", "order"}),
        (code(error("KeyError")), code(error("ValueError")), {"error", "order"}),
        (code(count=1), code(count=None), {"status"}),
        (code(result("1")), code(result("2")), {"plain", "order"}),
        (code(result("1")), code(result("1", **{"text/html": "<b>1</b>"})), {"kinds", "order"}),
        (code(stream("stdout", "a")), code(stream("stderr", "a")), {"stdout", "stderr", "kinds", "order"}),
        (code(result("1"), result("2")), code(result("2"), result("1")), {"plain", "order"}),
    ],
)
def test_each_difference_shows_in_its_aspects(
    left: dict[str, Any], right: dict[str, Any], expected: set[str]
) -> None:
    assert aspects(left, right) == expected


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
        ("1.2 ms", "1.3 ms"),
        ("site-packages/numpy/x.py:1", "site-packages/numpy/y.py:1"),
    ],
)
def test_what_is_not_volatile_still_counts(one: str, other: str) -> None:
    assert settle(one) != settle(other)


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
