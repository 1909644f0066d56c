"""Results, errors, ends and names of single cells."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from .harness import PACKAGES, START, Worker


def test_ready_tells_versions_and_proof(shared: Worker) -> None:
    ready = shared.first.meta["body"]["ready"]
    assert ready["python"].startswith(f"CPython {sys.version.split()[0]}, IPython ")
    proof = dict(ready["proof"])
    assert {"Uid", "Gid", "NoNewPrivs", "Seccomp", "CapEff", "CapBnd", "pid", "ppid"} <= set(proof)
    assert proof["pid"] == str(shared.pid)
    assert "lo" in proof["interfaces"].split(",")


def test_the_nonce_is_hidden_from_user_code(shared: Worker) -> None:
    result = shared.run("import os\n[n for n in os.environ if n in ('CELLBLOCK_NONCE', 'CELLBLOCK_NATIVE')]")
    assert result.shape == [("result", "[]")]


def test_the_last_expression_is_a_result_with_its_count(worker: Worker) -> None:
    assert worker.run("x = 1").finished["execution_count"] == 1
    result = worker.run("x + 1")
    assert result.only("result").body["execution_count"] == 2
    assert result.only("result").part("text/plain") == b"2"
    assert result.finished["execution_count"] == 2
    assert worker.run("Out[2], _, _2, In[2], _i2").shape == [("result", "(2, 2, 2, 'x + 1', 'x + 1')")]


@pytest.mark.parametrize("code", ["1;", "x = 1", "None", "", "   \n"])
def test_no_result_where_jupyter_has_none(shared: Worker, code: str) -> None:
    result = shared.run(code)
    assert (result.shape, result.end) == ([], "ok")


def test_silent_counts_and_shows_nothing(worker: Worker) -> None:
    result = worker.run("y = 1; y", silent=True)
    assert (result.shape, result.finished["execution_count"]) == ([], 0)
    assert worker.run("y").finished["execution_count"] == 1
    assert worker.run("In").shape == [("result", "['', 'y', 'In']")]


def test_store_history_false_does_not_count(worker: Worker) -> None:
    worker.run("5", store_history=False)
    assert worker.run("1").only("result").body["execution_count"] == 1


def test_echo_none_shows_no_result(shared: Worker) -> None:
    assert shared.run("1 + 1\n", echo="none").shape == []
    assert shared.run("1 + 1").shape == [("result", "2")]


def test_error_frames_are_the_cells_own_lines(shared: Worker) -> None:
    definition = shared.run("\n\ndef f(x):\n    return 1 / x\n", execution="cell-a")
    assert definition.end == "ok"
    result = shared.run("\n# comment\nf(0)", execution="cell-b")
    error = result.only("error").body
    assert (error["name"], error["value"]) == ("ZeroDivisionError", "division by zero")
    assert [(f["execution"], f["line"], f["function"], f["code"]) for f in error["frames"]] == [
        ("cell-b", 3, "<module>", "f(0)"),
        ("cell-a", 4, "f", "return 1 / x"),
    ]
    assert any("\x1b[" in block for block in error["traceback"])
    assert result.end == {"error": {"name": "ZeroDivisionError", "value": "division by zero"}}


def test_what_of_ours_a_cell_goes_through_is_no_frame(shared: Worker) -> None:
    error = shared.run("def ask():\n    return input()\nask()").only("error")
    assert [(frame["line"], frame["function"]) for frame in error.body["frames"]] == [
        (3, "<module>"),
        (2, "ask"),
    ]


def test_frames_in_files_have_no_execution(worker: Worker) -> None:
    Path(f"/proc/{worker.pid}/cwd/helper.py").write_text("def fail():\n    raise KeyError('k')\n")
    frames = worker.run("import helper\nhelper.fail()").only("error").body["frames"]
    assert [(frame["execution"], frame["line"]) for frame in frames] == [("e1", 2), (None, 2)]
    assert frames[1]["file"].endswith("helper.py")


def test_causes_come_nearest_first(shared: Worker) -> None:
    error = shared.run(
        "try:\n    try:\n        1/0\n    except Exception:\n        int('x')\n"
        "except Exception as e:\n    raise RuntimeError('top') from e"
    ).only("error")
    assert [(cause["name"], cause["explicit"]) for cause in error.body["causes"]] == [
        ("ValueError", True),
        ("ZeroDivisionError", False),
    ]
    assert error.body["causes"][1]["frames"][0]["line"] == 3


def test_syntax_errors_have_their_line(shared: Worker) -> None:
    result = shared.run("x = 1\n\ndef f(:\n", execution="syntax")
    error = result.only("error").body
    assert error["name"] == "SyntaxError"
    assert [(f["execution"], f["line"], f["code"]) for f in error["frames"]] == [("syntax", 3, "def f(:")]
    assert shared.run("return 5").only("error").body["name"] == "SyntaxError"


@pytest.mark.parametrize("code", ["exit", "quit", "exit()", "quit()", "import sys\nsys.exit()"])
def test_leaving_is_an_error_and_changes_nothing(shared: Worker, code: str) -> None:
    shared.run("kept = 7")
    result = shared.run(code)
    assert result.only("error").body["name"] == "SystemExit"
    assert result.end["error"]["name"] == "SystemExit"
    assert shared.run("kept").shape == [("result", "7")]


def test_usage_errors_are_a_line_on_stderr(shared: Worker) -> None:
    result = shared.run("%nosuchmagic")
    assert result.stream("stderr").startswith("UsageError: Line magic function `%nosuchmagic` not found")
    assert result.end["error"]["name"] == "UsageError"


def test_endless_recursion_is_bounded(shared: Worker) -> None:
    error = shared.run("def f(): f()\nf()").only("error").body
    assert error["name"] == "RecursionError"
    assert any("left out" in frame["function"] for frame in error["frames"])
    # Python's form: IPython's has a block for each step.
    assert "[Previous line repeated" in "".join(error["traceback"])


@pytest.mark.parametrize(
    "text", ["'\\x1b' * 10**6", "'é' * 10**6", "'\\n'.join('x' * 50 for _ in range(10**5))"]
)
def test_huge_messages_of_errors_are_cut_with_a_mark(shared: Worker, text: str) -> None:
    result = shared.run(f"raise ValueError({text})")
    error = result.only("error").body
    assert "characters left out" in error["value"]
    assert "left out" in "".join(error["traceback"])
    assert "characters left out" in result.end["error"]["value"]


def test_an_exception_whose_str_raises_is_reported(shared: Worker) -> None:
    result = shared.run("class Bad(Exception):\n    def __str__(self): raise RuntimeError\nraise Bad")
    assert result.end["error"]["name"] == "Bad"


def test_names_added_changed_removed(worker: Worker) -> None:
    names = worker.run("a = 5\nb = 'text'\nclass C: pass\nc = C()\n_private = 1").finished["names"]
    assert {n["name"]: n["kind"] for n in names["added"]} == {
        "a": "int",
        "b": "str",
        "C": "type",
        "c": "__main__.C",
        "_private": "int",
    }
    assert next(n["bytes"] for n in names["added"] if n["name"] == "b") == sys.getsizeof("text")
    names = worker.run("a = 'other'\ndel b\na").finished["names"]
    assert [n["name"] for n in names["changed"]] == ["a"]
    assert names["added"] == []
    assert names["removed"] == ["b"]


def test_many_names_are_cut_with_a_mark(worker: Worker) -> None:
    names = worker.run("for i in range(5000): globals()[f'name_{i}'] = i").finished["names"]["added"]
    assert len(names) <= 2001
    assert names[-1]["name"].endswith("more names")


def test_names_never_run_user_code(worker: Worker) -> None:
    result = worker.run(
        "class Meta(type):\n"
        "    def __eq__(self, other): print('eq'); return True\n"
        "    def __hash__(self): print('hash'); return 1\n"
        "    __module__ = property(lambda self: print('module'))\n"
        "class Nosy(metaclass=Meta):\n"
        "    nbytes = property(lambda self: print('nbytes'))\n"
        "    __class__ = property(lambda self: print('class'))\n"
        "    def __sizeof__(self): print('sizeof'); return 1\n"
        "nosy = Nosy()"
    )
    assert result.shape == []
    assert {n["name"] for n in result.finished["names"]["added"]} == {"Meta", "Nosy", "nosy"}


def test_user_expressions_after_success_only(shared: Worker) -> None:
    wanted = [["two", "1+1"], ["bad", "nope"]]
    result = shared.run("x = 1", user_expressions=wanted)
    value, bad = result.finished["expressions"]
    (part,) = value["result"]["value"]["parts"]
    span = part["span"]
    assert result.payload[span["offset"] : span["offset"] + span["length"]] == b"2"
    assert bad["result"]["error"]["name"] == "NameError"
    assert shared.run("1/0", user_expressions=wanted).finished["expressions"] == []


def test_the_namespace_is_main(worker: Worker) -> None:
    result = worker.run(
        "import pickle, sys\n"
        "class Point:\n    pass\n"
        "(__name__, '__file__' in globals(), sys.path[0], type(pickle.loads(pickle.dumps(Point()))) is Point)"
    )
    assert result.shape == [("result", "('__main__', False, '', True)")]


def test_long_code_comes_through_a_memfd(shared: Worker) -> None:
    result = shared.run("text = '" + "x" * 300_000 + "'\nlen(text)")
    assert result.shape == [("result", "300000")]


@pytest.mark.parametrize(
    ("code", "shape"),
    [
        ("  x = 3\n  x", [("result", "3")]),
        (">>> 1 + 1\n2", [("result", "2")]),
        ("a = 5 % 3\nb = a != 2\nb", [("result", "False")]),
        ("import math\nmath.sqrt?\nprint('after')", [("stdout", "after\n")]),
        ("files = !echo one two\nfiles[0]", [("result", "'one two'")]),
        ("!echo out; echo err >&2", [("stdout", "out\nerr\n")]),
        ("%%bash\necho a\necho b >&2", None),
        ("%%writefile /dev/null\nx", [("stdout", "Overwriting /dev/null\n")]),
        ("%%capture caught\nprint('hidden')", []),
        ("print(caught.stdout, end='')", [("stdout", "hidden\n")]),
        ("%env CELLBLOCK_TEST=1\n", [("stdout", "env: CELLBLOCK_TEST=1\n")]),
        ("%%python3\nprint('other')", [("stdout", "other\n")]),
        ("_r = get_ipython().run_cell('print(1)\\n2')", [("stdout", "1\n"), ("result", "2")]),
    ],
)
def test_ipython_syntax(shared: Worker, code: str, shape: list[tuple[str, str]] | None) -> None:
    result = shared.run(code)
    assert result.end == "ok", result.shape
    if shape is None:
        assert sorted(result.shape) == [("stderr", "b\n"), ("stdout", "a\n")]
    else:
        assert result.shape == shape


def test_the_directory_can_be_changed(shared: Worker) -> None:
    # IPython 8 without pickleshare warns on stderr, with ipykernel too.
    assert shared.run("%cd /\n").stream("stdout") == "/\n"
    assert shared.run("import os\nos.getcwd()").shape == [("result", "'/'")]


def test_time_magic_reports(shared: Worker) -> None:
    result = shared.run("%%time\nsum(range(10))")
    assert "Wall time" in result.stream("stdout")
    assert result.only("result").part("text/plain") == b"45"


def test_exit_codes_of_commands(shared: Worker) -> None:
    assert shared.run("!exit 3\n_exit_code").shape == [("result", "3")]


def test_packages_go_through_pip(shared: Worker) -> None:
    assert "pip" in shared.run("%pip --version\n").stream("stdout")


def test_history_magic_is_memory_only(worker: Worker) -> None:
    worker.run("first = 1")
    assert worker.run("%history").stream("stdout") == "first = 1\n%history\n"
    assert worker.run("import threading\nthreading.active_count()").shape == [("result", "1")]
    assert worker.run("import os\nlen(os.listdir('/proc/self/task'))").shape == [("result", "1")]


def test_warnings_name_the_cell_and_come_again(shared: Worker) -> None:
    for _ in range(2):
        result = shared.run("import warnings\nwarnings.warn('careful')")
        assert "UserWarning: careful" in result.stream("stderr")


def test_the_end_of_the_socket_ends_the_worker_quietly(worker: Worker) -> None:
    worker.socket.close()
    worker.eof = True
    assert worker.exit_code() == 0


def test_a_closed_channel_is_said_on_stderr(worker: Worker) -> None:
    worker.start("import os\nos.close(3)\ndisplay(1)")
    assert worker.exit_code() == 70
    worker.pump()
    assert "cellblock worker: failed to send a frame" in worker._stderr()


def test_os_exit_ends_with_its_code_and_its_last_words(worker: Worker) -> None:
    worker.start("print('last')\nimport os\nos._exit(5)")
    assert worker.exit_code() == 5
    worker.pump()
    assert "last\n" in worker._seen("e1")


def test_an_interpreter_without_ipython_is_unfit(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare/bin/python")
    bare = Worker(cwd=tmp_path, python=python)
    assert bare.first.meta["body"]["unfit"]["detail"] == (
        f"IPython is not installed for {python}: install it with `{python} -m pip install ipython dill`"
    )
    assert bare.exit_code() == 3
    bare.close()


def test_a_missing_library_is_said_on_stderr(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import cellblock_worker.main as m; m.main()"],
        env={"PYTHONPATH": str(PACKAGES), "CELLBLOCK_NATIVE": "/nowhere/lib.so"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 70
    assert "cannot load /nowhere/lib.so" in done.stderr


def test_the_worker_starts_soon(tmp_path: Path) -> None:
    running = Worker(cwd=tmp_path)
    running.close()
    # 0.15 s on the machines this is built on; the bound is for a loaded one.
    assert running.ready_seconds < 3


def test_prepare_makes_a_sourceless_package(tmp_path: Path) -> None:
    start = START.replace(".main as m", ".prepare as m")
    done = subprocess.run([sys.executable, "-I", "-c", start], cwd=tmp_path, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert (tmp_path / "lib/cellblock_worker/main.pyc").exists()
    assert list((tmp_path / "matplotlib").glob("fontlist*.json"))
    cache = {"CELLBLOCK_CACHE": str(tmp_path), "MPLCONFIGDIR": str(tmp_path / "config")}
    running = Worker(cwd=tmp_path, env=cache)
    assert list((tmp_path / "config").glob("fontlist*.json"))
    before = time.monotonic()
    assert running.run("import matplotlib.pyplot").end == "ok"
    assert time.monotonic() - before < 10
    running.close()
