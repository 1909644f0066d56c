"""The programs of bench/ run as their users run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("CELLBLOCK_BIN_DIR", "CELLBLOCK_TEST_PYTHON")


@pytest.fixture
def programs() -> list[str]:
    """Arguments that say where cellblock is."""
    if missing := [name for name in NEEDED if not os.environ.get(name)]:
        lacks(f"not set: {', '.join(missing)}; `cargo xtask test` sets them")
    bin_dir, python = (os.environ[name] for name in NEEDED)
    return ["--bin-dir", bin_dir, "--python", python]


def lacks(reason: str) -> NoReturn:
    """Skips the test, or fails it where nothing may be missing."""
    if os.environ.get("CELLBLOCK_REQUIRE") == "all":
        pytest.fail(reason)
    pytest.skip(reason)


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=1_200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_notebook_comes_out_the_same_from_both_engines(programs: list[str], tmp_path: Path) -> None:
    cells = [
        "import warnings; warnings.warn('careful')",
        "print('done')",
        "import pandas as pd; pd.DataFrame({'a': [1, 2]})",
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        "open('data/words.txt').read()",
        "1/0",
        "object()",
        "import random; random.random()",
    ]
    document = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    document.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    notebook = tmp_path / "small.ipynb"
    nbformat.write(document, notebook)  # type: ignore[no-untyped-call]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/words.txt").write_text("words")
    found = tmp_path / "found.json"
    options = ["--require", "100", "--with", "data", "--json", str(found)]
    run("-m", "bench.compare", *programs, *options, notebook)
    assert json.loads(found.read_text())["cells"] == len(cells)
    assert json.loads(found.read_text())["nondeterministic"] == 1


def test_the_benchmark_has_every_part_with_cellblock_and_its_peers_in_it(
    programs: list[str], tmp_path: Path
) -> None:
    if shutil.which("bwrap") is None:
        lacks("no bwrap on PATH; `apt-get install bubblewrap` installs it")
    found, charts = tmp_path / "bench.json", tmp_path / "plots"
    options: list[str | Path] = ["--quick", "--runs", "1", "--crowd", "2", "--json", found, "--plots", charts]
    told = run("bench/run.py", *programs, *options)
    document = json.loads(found.read_text())
    rows = {row["name"]: row for row in document["rows"]}
    assert set(document["seconds"]) == {row["part"] for row in rows.values()}
    assert all((row["cell"] or [name])[0] in told for name, row in rows.items())
    for row in rows.values():
        engines = {engine["engine"]: engine for engine in row["engines"]}
        assert any(engine["role"] == "cellblock" for engine in engines.values())
        # A limit is nothing that a peer has, and a save beside which others go on neither.
        alone = row["part"] == "limits" or "cellblock, undisturbed" in engines
        assert alone or any(engine["role"] == "peer" for engine in engines.values()), row
        # What is counted may be none, and a short pause is lost in what it is the difference of.
        assert row["unit"] == "" or "pause" in row["name"] or all(e["p50"] > 0 for e in engines.values())
    pandas = {engine["engine"] for engine in rows["new notebook → first pandas result"]["engines"]}
    assert {
        "cellblock, spare",
        "cellblock, zygote",
        "cellblock, exec",
        "bare clone3 of a warm Python",
    } <= pandas
    assert {level["live"] for level in document["growth"]} == {1}
    wrong = {name: row["engines"] for name, row in rows.items() if name.endswith(": variables wrong")}
    assert len(wrong) == 8
    assert all(engines[0]["engine"] == "cellblock" and engines[0]["worst"] == 0 for engines in wrong.values())
    assert {engine["engine"] for engine in wrong["20-cell notebook: variables wrong"]} == {
        "cellblock",
        "dill",
        "cloudpickle",
        "kishu",
    }
    assert (charts / "growth-latency.svg").stat().st_size > 0


def test_streaming_has_every_row_with_all_engines_in_it(programs: list[str], tmp_path: Path) -> None:
    found = tmp_path / "streaming.json"
    told = run("bench/streaming.py", *programs, "--quick", "--json", found)
    rows = json.loads(found.read_text())["rows"]
    assert [row["cellblock"]["runs"] for row in rows] == [20, 20, 20, 20, 1, 19, 2]
    assert all(row["bare pipe"]["runs"] == row["cellblock"]["runs"] for row in rows)
    assert all(row["jupyter_client + ipykernel"]["median_ms"] > 0 and row["name"] in told for row in rows)
    assert "goal: first line of a cell, p99 at most 5 ms: " in told


def test_an_editor_gets_right_answers_from_both_engines(programs: list[str], tmp_path: Path) -> None:
    found = tmp_path / "editor.json"
    told = run("bench/editor.py", *programs, "--runs", "1", "--json", found)
    rows = json.loads(found.read_text())["rows"]
    assert len(rows) == 6
    assert all(row["cellblock"]["runs"] == row["jupyter_client + ipykernel"]["runs"] == 1 for row in rows)
    assert all(row["name"] in told for row in rows)


def test_the_drop_in_gives_figures_and_tables_beside_the_old_services_times(
    programs: list[str], tmp_path: Path
) -> None:
    found = tmp_path / "service.json"
    told = run("bench/execution_service.py", *programs, "--runs", "1", "--json", found)
    rows = json.loads(found.read_text())["rows"]
    assert [row["old_service_ms"] for row in rows] == pytest.approx([0.96, 73, 10.8, 14, 939, 12_034])
    assert all(row[engine]["runs"] == 1 for row in rows for engine in ("exec", "general API", "drop-in"))
    # At least the data's 1,000 rows of a large table, and nowhere near 100,000.
    assert all(8_000 < size < 400_000 for size in rows[-1]["wire_bytes"])
    assert told.count("goal: ") == 4


def test_a_slow_reader_gets_all_bytes_or_an_honest_mark(programs: list[str]) -> None:
    options = ["--megabytes", "300", "--megabytes-per-second", "200", "--pause-seconds", "1"]
    told = run("bench/slow_reader.py", *programs, *options)
    assert "below the cap: printed 300,000,000 bytes, received 300,000,000, dropped 0 in 0 gaps" in told
    assert "PROBLEM" not in told
