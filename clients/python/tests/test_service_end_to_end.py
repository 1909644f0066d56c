"""The service, the real cellblockd, real workers."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cellblock
from cellblock import AsyncExecutionService, Client, ExecutionResult, ExecutionService, LocalSupervisor
from cellblock._service.ids import safe_id

Run = Callable[..., ExecutionResult]


@pytest.fixture(scope="module")
def service(supervisor: LocalSupervisor) -> Iterator[ExecutionService]:
    """A service with little patience."""
    with supervisor.client(timeout=60) as client, ExecutionService(client, wall_seconds=30) as made:
        yield made


@pytest.fixture
def notebook(service: ExecutionService) -> Iterator[str]:
    """A fresh id that is none of cellblock's, deleted afterwards."""
    name = f"note book/{uuid.uuid4().hex}"
    yield name
    service.delete_notebook(name)


@pytest.fixture
def run(service: ExecutionService, notebook: str) -> Run:
    """Runs a cell of that notebook; its result has strict JSON."""

    def ran(code: str, **options: bool) -> ExecutionResult:
        result = service.execute_code(code, "cell", notebook, **options)
        json.loads(result.model_dump_json(), parse_constant=pytest.fail)
        result.model_dump_json().encode()
        return result

    return ran


def succeeded(result: ExecutionResult) -> ExecutionResult:
    assert result.status == "success", result.stderr
    return result


def test_a_cell_with_everything_keeps_its_order(run: Run) -> None:
    result = succeeded(
        run(
            """\
import plotly.graph_objects as go
print('first')
figure, axes = plt.subplots(); axes.plot([1, 3]); display(figure, 'Figure 1: A line')
df = pd.DataFrame({'a': [1, 2], 'b': ['x', None]})
display(df, 'Table 1: T')
display({'k': 1}, 'J')
chart = go.Figure(go.Bar(y=[1, 2]))
"""
        )
    )
    assert result.stdout.startswith("first\n")
    assert [
        (table["source"], table["name"] if "name" in table else table["type"]) for table in result.tables
    ][:3] == [("display", "displayed_result"), ("display", "json"), ("variable", "df")]
    assert result.tables[0]["data"] == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    [plot] = result.plots
    assert (plot["label"], plot["source"]) == ("Figure 1: A line", "display")
    assert base64.b64decode(plot["data"]).startswith(b"\x89PNG")
    [interactive] = result.interactive_plots
    assert (interactive["name"], interactive["figure"]["data"][0]["type"]) == ("chart", "bar")
    assert json.loads(interactive["json"]) == interactive["figure"]
    order = [item["field"] for item in result.outputs if item["field"] != "stdout"]
    assert order == ["plots", "tables", "tables", "tables", "interactive_plots"]
    assert result.outputs[0]["field"] == "stdout"


def test_all_that_came_before_an_error_is_kept(run: Run) -> None:
    result = run(
        "x = 1\nprint('seen')\nplt.plot([1])\ndisplay(pd.DataFrame({'a': [1]}))\ndef f():\n    1 / 0\nf()"
    )
    assert (result.status, result.error_type) == ("error", "ZeroDivisionError")
    assert result.stdout.startswith("seen\n")
    # What is displayed is printed too.
    assert [table["source"] for table in result.tables] == ["display", "stdout"]
    assert len(result.plots) == 1
    assert result.traceback == (
        "Traceback (most recent call last):\n"
        '  File "<cell 1>", line 7, in <module>\n'
        "    f()\n"
        '  File "<cell 1>", line 6, in f\n'
        "    1 / 0\n"
        "ZeroDivisionError: division by zero\n"
    )
    assert result.stderr.endswith(f"\n\nFULL PYTHON STACK TRACE:\n{result.traceback}")
    again = run("f()")
    assert '  File "<cell 2>", line 1, in <module>\n    f()\n  File "<cell 1>", line 6, in f' in again.stderr
    assert [frame["cell"] for frame in again.frames] == [2, 1]


def test_input_is_an_end_of_file_and_no_frame_is_ours(run: Run) -> None:
    result = run("print('before')\ninput('name? ')")
    assert (result.error_type, result.stdout) == ("EOFError", "before\n")
    assert "cellblock_worker" not in result.stderr
    assert [frame["line"] for frame in result.frames] == [2]


def test_refused_code_never_runs(run: Run) -> None:
    result = run("print('ran')\ny = 5\ndef f(:\n  pass")
    assert (result.status, result.error_type, result.stdout) == ("error", "ValidationError", "")
    assert re.match(r"Syntax Error on line 3: \S", result.error_message or "")
    assert result.stderr.startswith(f"CODE VALIDATION FAILED:\n{result.error_message}")
    assert result.syntax_error is not None
    assert result.syntax_error["line"] == 3
    assert run("print('y' in globals())").stdout == "False\n"


def test_a_time_limit_keeps_the_variables(supervisor: LocalSupervisor, notebook: str) -> None:
    with supervisor.client(timeout=60) as client, ExecutionService(client, wall_seconds=1.5) as hasty:
        succeeded(hasty.execute_code("x = 1", "c", notebook))
        result = hasty.execute_code("print('on')\nwhile True: pass", "c", notebook)
        assert (result.status, result.error_type, result.stdout) == ("error", "TimeoutError", "on\n")
        assert "the variables are kept" in (result.error_message or "")
        assert result.outcome["limit"]["allowed"] == 1.5
        assert 'File "<cell 2>", line 2, in <module>' in (result.traceback or "")
        assert hasty.execute_code("print(x)", "c", notebook).stdout == "1\n"


def test_a_dead_worker_costs_what_was_not_saved_and_that_is_named(run: Run) -> None:
    succeeded(run("x = 1"))
    succeeded(run("y = 1", persist_state=False))
    result = run("import os\nprint('last', flush=True)\nos._exit(7)")
    assert (result.status, result.error_type, result.stdout) == ("error", "WorkerDied", "last\n")
    assert "the worker exited with code 7" in (result.error_message or "")
    assert {"x", "y"} <= set(result.outcome["lost"])
    after = run("print(x, 'y' in globals(), pd.__name__)")
    assert after.stdout == "1 False pandas\n"
    [notice] = after.notices
    assert (notice["topic"], notice["names"]) == ("variables_lost", ["y"])


def test_each_cell_says_what_is_saved_and_what_is_not(run: Run) -> None:
    saved = succeeded(run("x = 1"))
    assert saved.checkpoint is not None
    assert (saved.checkpoint["state"], saved.checkpoint["left_out"]) == ("saved", [])
    assert run("x = 2", persist_state=False).checkpoint is None
    partial = run("import threading\nlk = threading.Lock()\n1 / 0").checkpoint
    assert partial is not None
    assert (partial["state"], partial["left_out_count"]) == ("partial", 1)
    assert partial["left_out"] == [{"path": "lk", "type": "_thread.lock", "reason": "a lock"}]


def test_saved_state_outlives_the_worker(service: ExecutionService, run: Run, notebook: str) -> None:
    assert not service.has_saved_state(notebook)
    succeeded(run("import math as m\nclass P: pass\np = P(); q = p\ndef f(): return x\nx = 1"))
    assert service.has_saved_state(notebook)
    service.close_notebook(notebook)
    assert succeeded(run("print(f(), p is q, isinstance(p, P), m.pi > 3)")).stdout == "1 True True True\n"
    run("x = 2", persist_state=False)
    assert service.restore_state(notebook)
    assert run("print(f())").stdout == "1\n"
    run("x = 3", persist_state=False)
    assert service.save_state(notebook)["state"] == "saved"
    service.close_notebook(notebook)
    assert run("print(f())").stdout == "3\n"
    assert service.clear_saved_state(notebook)
    assert run("print('x' in globals())").stdout == "False\n"
    assert not any(("x" in category) for category in service.get_variable_info(notebook).values())


def test_a_restored_worker_has_its_helpers(service: ExecutionService, run: Run, notebook: str) -> None:
    succeeded(run("df = pd.DataFrame({'a': [1]})\ndate = 'mine'"))
    service.close_notebook(notebook)
    # What no cell had used yet, what one has, and what one has rebound.
    shown = succeeded(run("display(df, 'T')\nprint(round(stats.norm.cdf(0), 1), np.arange(2).sum(), date)"))
    assert shown.stdout.endswith("0.5 1 mine\n")
    assert [table["label"] for table in shown.tables if table["source"] == "display"] == ["T"]
    assert len(succeeded(run("plt.plot([1])")).plots) == 1
    service.clear_namespace(notebook)
    service.close_notebook(notebook)
    assert run("print('df' in globals(), np.arange(2).sum(), callable(date))").stdout == "False 1 True\n"


def test_random_numbers_go_on_in_a_restored_worker(
    service: ExecutionService, run: Run, notebook: str
) -> None:
    draw = "import random\nprint(np.random.rand(), random.random())"
    service.set_notebook_execution_seed(notebook, 42)
    first, second = run(draw).stdout, run(draw).stdout
    service.clear_saved_state(notebook)
    assert run(draw).stdout == first
    service.close_notebook(notebook)
    assert run(draw).stdout == second


def test_an_interrupt_cancels_the_cell(service: ExecutionService, run: Run, notebook: str) -> None:
    succeeded(run("x = 1"))
    results: list[ExecutionResult] = []
    code = "open('started', 'w').close()\nwhile True: pass"
    thread = threading.Thread(target=lambda: results.append(run(code)))
    thread.start()
    client = service._connected()
    files = client.open(safe_id(notebook)).files
    while "started" not in [file.name for file in files.list()]:
        assert thread.is_alive()
    service.interrupt(notebook)
    thread.join()
    [result] = results
    assert (result.status, result.error_type) == ("cancelled", "KeyboardInterrupt")
    assert "the variables are kept" in (result.error_message or "")
    assert run("print(x)").stdout == "1\n"


def test_seeds_begin_anew_at_once_and_with_nothing_saved(
    service: ExecutionService, run: Run, notebook: str
) -> None:
    draw = "import random\nprint(np.random.rand(), random.random())"
    first = succeeded(run(draw)).stdout
    assert run(draw).stdout != first
    service.clear_saved_state(notebook)
    assert run(draw).stdout == first
    service.set_notebook_execution_seed(notebook, 42)
    seeded = run(draw).stdout
    assert seeded == "0.3745401188473625 0.6394267984578837\n"
    service.clear_saved_state(notebook)
    assert run(draw).stdout == seeded
    service.set_notebook_execution_seed(notebook, 42)
    assert run(draw).stdout == seeded


def test_clearing_leaves_the_helpers(service: ExecutionService, run: Run, notebook: str) -> None:
    succeeded(run("x = 1\ndf = pd.DataFrame({'a': [1]})\nnp = 5\nimport math"))
    service.clear_namespace(notebook)
    told = succeeded(run("print('x' in globals(), 'df' in globals(), np.arange(2).sum(), math.pi > 3)"))
    assert told.stdout == "False False 1 True\n"
    service.clear_namespace(notebook, keep_imports=False)
    assert run("print('math' in globals())").stdout == "False\n"


def test_variables_are_told_by_category(service: ExecutionService, run: Run, notebook: str) -> None:
    succeeded(run("i = 1\ndf = pd.DataFrame({'a': [1.0, None]})\n_hidden = 1\ns = 't'"))
    info = service.get_variable_info(notebook)
    assert info["dataframes"]["df"]["columns"] == ["a"]
    assert info["numbers"]["i"]["value"] == 1
    assert "s" in info["other"]
    assert not any("_hidden" in category for category in info.values())
    assert service.get_variable_content(notebook, "df")["preview"] == [{"a": 1.0}, {"a": None}]
    with pytest.raises(KeyError, match=r"^Variable 'nope' not found$"):
        service.get_variable_content(notebook, "nope")


def test_context_is_replayed_without_outputs(run: Run) -> None:
    code = "x = 2\nprint('replayed')\ndisplay(pd.DataFrame({'a': [1]}))\nplt.plot([1])"
    result = succeeded(run(code, capture_outputs=False, persist_state=False))
    assert (result.tables, result.plots, result.interactive_plots) == ([], [], [])
    assert result.stdout.startswith("replayed\n")
    assert run("print(x)").stdout == "2\n"


def test_a_hundred_thousand_rows_are_a_small_answer(client: Client) -> None:
    notebook = client.open(f"wire-{uuid.uuid4().hex}")
    arguments = {"do": "run", "notebook": "n", "seed": 1, "cell": 1, "autofix": True, "capture": True}
    code = "df = pd.DataFrame(np.random.rand(100_000, 8))"
    result = notebook.execute(code, plugin=("execution_service", arguments), echo=False).result(timeout=60)
    shown = [output for output in result.outputs if isinstance(output, cellblock.Display)]
    assert sum(len(part) for display in shown for part in display.bundle.parts.values()) < 300_000
    assert any("text/html" in display.bundle for display in shown)
    notebook.delete()


def test_notebooks_run_side_by_side_and_share_nothing(service: ExecutionService) -> None:
    names = [f"side-{number}-{uuid.uuid4().hex}" for number in range(2)]
    barrier = threading.Barrier(2, timeout=60)
    seen: dict[str, list[str]] = {}

    def work(name: str) -> None:
        barrier.wait()
        results = [service.execute_code(f"x = {name!r}\nprint(x)", "c", name) for _ in range(3)]
        results.append(service.execute_code("import os\nprint(x, os.listdir('..').count('data'))", "c", name))
        seen[name] = [result.stdout for result in results]

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {name: [f"{name}\n"] * 3 + [f"{name} 0\n"] for name in names}
    for name in names:
        service.delete_notebook(name)


def test_the_asynchronous_service_does_the_same(supervisor: LocalSupervisor) -> None:
    async def one(service: AsyncExecutionService, name: str) -> dict[str, Any]:
        result = await service.execute_code("x = 1\nplt.plot([x])\nprint(x)", "c", name)
        info = await service.get_variable_info(name)
        await service.delete_notebook(name)
        return {"stdout": result.stdout, "plots": len(result.plots), "x": info["numbers"]["x"]["value"]}

    async def main() -> list[dict[str, Any]]:
        async with AsyncExecutionService(supervisor.socket_path) as service:
            names = [f"async/{uuid.uuid4().hex}" for _ in range(3)]
            return await asyncio.gather(*(one(service, name) for name in names))

    assert asyncio.run(main()) == [{"stdout": "1\n", "plots": 1, "x": 1}] * 3


def test_ten_megabytes_are_cut_with_a_mark(run: Run) -> None:
    result = succeeded(run("print('x' * 10_000_000)"))
    assert len(result.stdout) <= 1_000_000
    assert "characters are left out here" in result.stdout


def test_what_a_cell_forges_costs_itself_alone(run: Run) -> None:
    forged = "{'application/vnd.cellblock.table+json': {'columns': 7}, 'text/plain': 'x'}"
    code = f"from IPython.core.display_functions import publish_display_data\npublish_display_data({forged})"
    result = succeeded(run(f"{code}\nprint('on')\ndf = pd.DataFrame({{'a': [1]}})"))
    assert result.stdout == "on\n"
    assert [table["name"] for table in result.tables] == ["df"]
    assert [notice["topic"] for notice in result.notices] == ["degraded"]


def test_a_missing_package_is_named_with_its_cure(run: Run) -> None:
    result = run("import no_such_package_here")
    assert result.error_type == "ModuleNotFoundError"
    message = result.error_message or ""
    assert "\n\nHINT: Missing Python package 'no_such_package_here'." in message
    assert "profile `default`" in message
    assert "pip install no_such_package_here" in message
    assert "HINT" not in (run("import json.nothing").error_message or "")
