"""What is around a run of the service: checks, folder, warnings, input, interrupts; none of it elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from .harness import Worker
from .service import Service


@pytest.fixture
def service(worker: Worker) -> Service:
    """A worker of this test's own."""
    return Service(worker)


@pytest.fixture(scope="module")
def used(shared: Worker) -> Service:
    """A worker that the tests of this module share."""
    return Service(shared)


# The code.


def test_a_report_comes_first(used: Service) -> None:
    run = used.run("print(1)\nx = 1")
    assert run.result.outputs[0].kind == "display"
    assert run.report["refused"] is None
    assert run.report["lint_report"]["engine"]


def test_what_is_repaired_is_what_runs(used: Service) -> None:
    used.run("import random")
    run = used.run("print(random.choice[['one']])")
    assert run.stdout == "one\n"
    assert run.report["autofix_report"]["fixed_code"] == "print(random.choice(['one']))"


def test_what_is_refused_does_not_run(used: Service) -> None:
    run = used.try_("y = 5\ndef f(:\n  pass")
    assert run.end["error"]["name"] == "ValidationError"
    assert run.end["error"]["value"].startswith("Syntax Error on line 2")
    assert run.report["refused"]["line"] == 2
    assert [output.kind for output in run.result.outputs] == ["display"]
    assert used.run("print('y' in globals())").stdout == "False\n"


def test_the_code_runs_as_it_is_written(used: Service) -> None:
    run = used.try_("import plotly.express as px\nfor i in range(1):\n    1/0")
    (frame,) = run.result.only("error").body["frames"]
    assert (frame["line"], frame["code"]) == (3, "1/0")


def test_the_last_expression_is_not_echoed(used: Service) -> None:
    run = used.run("1 + 1")
    assert (run.stdout, run.shown) == ("", [])


def test_a_run_for_its_side_effects_shows_nothing(used: Service) -> None:
    run = used.run(
        "side = 2\ndf2 = pd.DataFrame({'a': [1]})\ndisplay(df2)\n_ = plt.plot([1])\n"
        "display(1, display_id='x')\nf = go.Figure()\nf.show()\nprint('out')",
        capture=False,
    )
    assert run.shown == []
    assert run.stdout.endswith("out\n")
    run = used.run("print(side, plt.get_fignums())")
    assert (run.stdout, run.shown) == ("2 []\n", [])


# The folder.


def test_each_run_begins_in_the_workspace(service: Service, tmp_path: Path) -> None:
    service.worker.run("import os\nos.chdir('/')")
    service.run("import os\nopen('data/a.txt', 'w').write('hi')\nos.chdir('/tmp')")
    assert (tmp_path / "data/a.txt").read_text() == "hi"
    assert service.run("print(open('data/a.txt').read())").stdout == "hi\n"
    # Other code stays where it goes.
    service.worker.run("os.chdir('/')")
    assert service.worker.run("os.getcwd()").shape == [("result", "'/'")]


def test_a_data_folder_that_is_removed_comes_back(service: Service, tmp_path: Path) -> None:
    service.run("import shutil\nshutil.rmtree('data')")
    service.run("x = 1")
    assert (tmp_path / "data").is_dir()


# Warnings and streams.


def test_warnings_are_shown_each_time_with_the_name_of_the_cell(service: Service) -> None:
    service.run("import warnings, sys")
    run = service.run(
        "print('o')\nprint('e', file=sys.stderr)\n"
        "for _ in range(2):\n    warnings.warn('careful', DeprecationWarning)"
    )
    line = "<cell 2>:4: DeprecationWarning: careful\n  warnings.warn('careful', DeprecationWarning)\n"
    assert (run.stdout, run.stderr) == ("o\n", f"e\n{line}{line}")


def test_warnings_of_functions_name_the_cell_that_they_are_of(service: Service) -> None:
    service.run("\n\nimport warnings\ndef f(): warnings.warn('w')")
    assert service.run("f()").stderr.startswith("<cell 1>:4: UserWarning: w\n")


def test_silence_is_the_runs_own_and_other_code_keeps_its_filters(service: Service) -> None:
    service.worker.run("import warnings\nfilters = list(warnings.filters)\nshow = warnings.formatwarning")
    assert service.run("warnings.simplefilter('ignore')\nwarnings.warn('w')").stderr == ""
    assert "UserWarning: w" in service.run("warnings.warn('w')").stderr
    service.worker.run("warnings.filters.remove(('ignore', None, Warning, None, 0))")
    result = service.worker.run("list(warnings.filters) == filters, warnings.formatwarning is show")
    assert result.shape == [("result", "(True, True)")]


def test_exit_is_an_error_and_no_warning(service: Service) -> None:
    run = service.try_("import sys\nsys.exit(3)")
    assert (run.end, run.stderr) == ({"error": {"name": "SystemExit", "value": "3"}}, "")
    assert service.run("print(1)").stdout == "1\n"


def test_input_finds_the_end_of_the_file(service: Service) -> None:
    run = service.try_("input('name? ')")
    assert run.end["error"] == {
        "name": "EOFError",
        "value": "input() was called, but nobody can answer: this code runs without input",
    }
    assert service.worker.run("input()").end["error"]["name"] == "StdinNotImplementedError"


# Ends.


def test_what_was_made_before_an_interrupt_is_captured(used: Service) -> None:
    execution = used.start(
        "made = pd.DataFrame({'a': [1]})\nfig = go.Figure()\n_ = plt.plot([1])\ndisplay({'a': 1})\n"
        "import time\nprint('asleep', flush=True)\ntime.sleep(20)"
    )
    used.worker.until_output(execution, "asleep")
    used.worker.interrupt()
    run = used.wait(execution)
    assert run.end == "interrupted"
    assert run.kinds == ["json", "table", "plotly", "image"]
    assert used.run("print(made.shape)").stdout == "(1, 1)\n"


def test_an_interrupt_in_a_display_leaves_the_run(used: Service) -> None:
    execution = used.start(
        "import time\nclass Slow:\n    def __repr__(self):\n        print('slow', flush=True)\n"
        "        time.sleep(20)\ndisplay(Slow())"
    )
    used.worker.until_output(execution, "slow")
    used.worker.interrupt()
    assert used.wait(execution).end == "interrupted"
    assert used.run("display(1)").kinds == ["text"]


def test_runs_and_other_code_take_turns(service: Service) -> None:
    service.run("a = pd.DataFrame({'x': [1]})\ndisplay(a)")
    assert service.worker.run("display(a)").only("display").mimes == ["text/plain", "text/html"]
    assert service.worker.run("a").only("result").mimes == ["text/plain", "text/html"]
    service.worker.run("1/0")
    assert service.run("display(a)").kinds == ["table"]


def test_awaiting_cells_are_captured(used: Service) -> None:
    run = used.run(
        "import asyncio\nasync def later():\n    await asyncio.sleep(0)\n    display({'a': 1})\nawait later()"
    )
    assert run.kinds == ["json"]


def test_displays_of_threads_are_captured(used: Service) -> None:
    run = used.run(
        "import threading\nt = threading.Thread(target=lambda: display({'a': 1}))\nt.start(); t.join()"
    )
    assert run.kinds == ["json"]


def test_a_forked_child_ends_without_frames(used: Service) -> None:
    run = used.run(
        "import os\nchild = os.fork()\nif child == 0:\n    display({'a': 1}, 'C')\n    os._exit(0)\n"
        "os.waitpid(child, 0)\nprint('parent')"
    )
    assert run.shown == []
    assert run.stdout == "\nC:\n{'a': 1}\nparent\n"


def test_a_run_that_breaks_what_it_is_left_with_ends_as_it_did(service: Service) -> None:
    run = service.try_("import warnings\nprint('done')\nwarnings.filters = None")
    assert (run.end, run.stdout) == ("ok", "done\n")


def test_without_packages_a_notebook_still_works(service: Service) -> None:
    service.worker.run(
        "import sys\nfor name in ('pandas', 'numpy', 'matplotlib', 'plotly'): sys.modules[name] = None"
    )
    run = service.run(
        "x = 1\ndisplay({'a': x}, 'J')\ndisplay([0] * 200)\nprint(to_python_type(x), safe_int('3'))"
    )
    assert run.kinds == ["json", "json"]
    assert run.stdout.endswith("1 3\n")
    assert service.ask("variables")["numbers"]["x"]["value"] == 1
    assert service.ask("variable", name="x") == {"type": "int", "value": "1"}
    error = service.try_("pd.DataFrame()").end["error"]
    assert error["name"] == "ModuleNotFoundError"
    assert "HINT: Missing Python package 'pandas'" in error["value"]
    service.clear()
    assert service.run("print('x' in globals())").stdout == "False\n"
