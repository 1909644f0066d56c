"""A cell that fails has one error among its outputs, whatever it raises, and whenever it is interrupted."""

from __future__ import annotations

import pytest

from .harness import Worker

# Formatting it takes long, and says when it has begun.
SLOW = """
import time
class Slow(%s):
    def __str__(self):
        print('formatting', flush=True)
        until = time.monotonic() + 60
        while time.monotonic() < until: pass
        return 'never'
raise Slow('b')
"""


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("raise ExceptionGroup('g', [ValueError('inner')])", "ValueError: inner"),
        (
            "import asyncio\nasync def fail(): raise ValueError('inner')\n"
            "async with asyncio.TaskGroup() as tasks: tasks.create_task(fail())",
            "ValueError: inner",
        ),
        (
            "try: raise ExceptionGroup('g', [ValueError('inner')])\nexcept Exception: raise KeyError('k')",
            "ValueError: inner",
        ),
        ("class Bad(Exception):\n    def _render_traceback_(self): raise OSError\nraise Bad('b')", "Bad: b"),
        ("class Bad(Exception):\n    def __getattr__(self, name): raise OSError\nraise Bad('b')", "Bad: b"),
        ("class Bad(Exception):\n    def __getattribute__(*_): raise OSError\nraise Bad('b')", "Bad: b"),
        (
            "class Kind(type):\n    __name__ = property(lambda _: 1 / 0)\n"
            "class Bad(Exception, metaclass=Kind): pass\nraise Bad('b')",
            "Bad: b",
        ),
        ("class Bad(Exception):\n    def __str__(self): raise KeyboardInterrupt\nraise Bad('b')", "Bad: b"),
        ("import sys\nclass Bad(Exception):\n    def __str__(self): sys.exit()\nraise Bad('b')", "Bad"),
        (
            "import sys\nclass Kind(type):\n    __name__ = property(lambda _: sys.exit())\n"
            "class Bad(Exception, metaclass=Kind): pass\nraise Bad('b')",
            "Bad: b",
        ),
        (
            "class Text(str):\n    __len__ = lambda _: 1\n    __add__ = None\n"
            "class Bad(Exception):\n    def __str__(self): return Text('x' * 10**6)\nraise Bad('b')",
            "Bad",
        ),
        ("class Bad(Exception): _render_traceback_ = lambda _: [''] * 300_000\nraise Bad('b')", "left out"),
        (
            "group = ValueError()\nfor _ in range(40): group = ExceptionGroup('b', [group] * 2)\nraise group",
            "b",
        ),
        ("raise SyntaxError('b', ('a\\0b.py', 1, 1, None))", "SyntaxError: b"),
        ("raise SyntaxError('b', ('\\ud800.py', 1, 1, None))", "SyntaxError: b"),
        ("wrong = SyntaxError('b')\nwrong.filename, wrong.lineno = 'x', 2**32\nraise wrong", "b"),
        ("wrong = SyntaxError('b')\nwrong.filename, wrong.lineno = 'x', 10**5000\nraise wrong", "b"),
        ("import bdb\nraise bdb.BdbQuit('b')", "b"),
        (
            "def fail(*_): raise OSError\nget_ipython().set_custom_exc((KeyError,), fail)\n"
            "raise KeyError('b')",
            "'b'",
        ),
        ("class Bad(SystemExit):\n    def __str__(self): raise KeyboardInterrupt\nraise Bad('b')", "Bad: b"),
        ("wrong = SyntaxError('b')\nwrong.filename, wrong.lineno = 7, 'x'\nraise wrong", "SyntaxError: b"),
        (
            "def f(): raise KeyError('b')\nf.__code__ = f.__code__.replace(co_linetable=b'')\nf()",
            "'b'",
        ),
        (
            "import builtins, IPython.core.ultratb as tb\ndel tb.VerboseTB.format_record, builtins.print\n"
            "raise KeyError('b')",
            "'b'",
        ),
    ],
)
def test_an_error_is_among_the_outputs_whatever_is_raised(worker: Worker, code: str, shown: str) -> None:
    # IPython prints groups, and what it fails to format.
    result = worker.run(code)
    error = result.only("error").body
    assert error["name"] == result.end["error"]["name"]
    assert shown in "\n".join(error["traceback"])
    assert error["frames"][0]["line"] == len(code.splitlines())
    assert worker.run("1 + 1").shape == [("result", "2")]


def test_a_step_without_a_line_has_the_one_before_it(shared: Worker) -> None:
    # As the jump back of a loop that ends in nested branches in Python 3.11; interrupts arrive there. The
    # first three instructions keep their lines; 0xff says of eight units of code that they have none.
    code = (
        "def f():\n"
        "    n = 1\n"
        "    raise KeyError\n"
        "table = f.__code__.co_linetable\n"
        "starts = [at for at, byte in enumerate(table) if byte & 128]\n"
        "f.__code__ = f.__code__.replace(co_linetable=table[: starts[3]] + b'\\xff' * 9)\n"
        "f()"
    )
    error = shared.run(code).only("error").body
    assert [frame["line"] for frame in error["frames"]] == [7, 2]
    # In IPython's own form, with the lines around it.
    assert "Cell" in error["traceback"][3]
    assert "def" in error["traceback"][3]


@pytest.mark.parametrize("steps", range(39, 44))
def test_frames_are_whole_or_say_how_many_are_missing(shared: Worker, steps: int) -> None:
    frames = (
        shared.run(f"def f(n): return f(n - 1) if n else 1 / 0\nf({steps - 2})").only("error").body["frames"]
    )
    marks = [frame["function"] for frame in frames if "left out" in frame["function"]]
    assert marks == ([f"{steps - 40} frames left out"] if steps > 40 else [])
    assert len(frames) == min(steps, 41)
    assert all(frame["file"] and frame["function"] for frame in frames)


def test_there_is_no_traceback_to_show(worker: Worker) -> None:
    assert worker.run("%tb").stream("stderr") == "No traceback available to show.\n"


def test_a_long_chain_of_causes_is_bounded(shared: Worker) -> None:
    # IPython's form of it takes minutes.
    links = "e = None\nfor n in range(10_000):\n    e, cause = KeyError(n), e\n    e.__cause__ = cause"
    error = shared.run(f"{links}\nraise e").only("error").body
    assert error["traceback"][-1] == "KeyError: 9999"
    assert "left out" in "".join(error["traceback"])
    assert [cause["value"] for cause in error["causes"][:2]] == ["9998", "9997"]


def test_the_largest_frames_and_causes_fit_into_a_message(worker: Worker) -> None:
    worker.run("source = 'def f(n):\\n  return f(n - 1) if n else 1 / 0 # ' + '漢' * 390")
    worker.run("open('deep.py', 'w').write(source)\nimport sys\nsys.path.insert(0, '')\nimport deep")
    raising = "def g(k):\n    try: g(k - 1) if k else deep.f(60)\n    except Exception: deep.f(60)\ng(8)"
    error = worker.run(raising).only("error").body
    assert error["name"] == "ZeroDivisionError"
    assert error["causes"]
    assert error["frames"][0]["execution"] is not None
    # Six bytes each on the wire.
    code = "exec(compile('def f(n): return f(n - 1) if n else 1 / 0', '\\x01' * 390, 'exec'))\nf(60)"
    assert worker.run(code).only("error").body["name"] == "ZeroDivisionError"


@pytest.mark.parametrize("kind", ["Exception", "SystemExit", "SyntaxError"])
def test_an_interrupt_cuts_off_what_formats_an_error(worker: Worker, kind: str) -> None:
    execution = worker.start(SLOW % kind)
    worker.until_output(execution, "formatting\n")
    worker.interrupt()
    result = worker.wait(execution)
    assert result.end == "interrupted"
    shown = [output.body for output in result.outputs if output.kind == "error"]
    assert [error["name"] for error in shown] == ["Slow", "KeyboardInterrupt"]
    assert shown[0]["value"] == "b"
    assert shown[0]["frames"][0]["code"] == "raise Slow('b')"
    assert result.stream("stderr") == ""
    assert worker.run("1 + 1").shape == [("result", "2")]


def test_an_error_that_is_false_is_one(worker: Worker) -> None:
    fail = "class Bad(Exception): __bool__ = lambda _: False\ndef fail(_): raise Bad"
    worker.run(f"{fail}\nget_ipython().input_transformers_post.append(fail)")
    result = worker.run("1")
    assert result.end["error"]["name"] == result.only("error").body["name"] == "Bad"


def test_a_user_expression_fails_alone(shared: Worker) -> None:
    code = "class Bad(Exception):\n    def __str__(self): raise OSError\ndef fail(): raise Bad"
    result = shared.run(code, user_expressions=[["a", "fail()"], ["b", "1"]])
    assert result.end == "ok"
    found = {each["name"]: each["result"] for each in result.finished["expressions"]}
    assert found["a"]["error"]["name"] == "Bad"
    assert "value" in found["b"]


def test_errors_are_shown_on_request_as_ipython_does(shared: Worker) -> None:
    shown = shared.run(
        "shell = get_ipython()\ntry: 1 / 0\nexcept ZeroDivisionError as e:\n"
        "    shell.showtraceback(None, None, None, True)\n    shell.showtraceback((type(e), e, None))\n"
        "shell.showtraceback((ValueError, None, None))"
    )
    assert [name for _, name in shown.shape] == ["ZeroDivisionError", "ZeroDivisionError", "ValueError"]
    assert shown.end == "ok"


def test_the_mode_of_tracebacks_counts_for_deep_ones_too(worker: Worker) -> None:
    worker.run("%xmode Minimal")
    error = worker.run("def f(): f()\nf()").only("error").body
    assert len(error["traceback"]) == 1


def test_a_groups_traceback_begins_with_the_cell(shared: Worker) -> None:
    error = shared.run("def f(): raise ExceptionGroup('g', [ValueError('b')])\nf()").only("error").body
    text = "\n".join(error["traceback"])
    assert text.splitlines()[1].startswith("  |   Cell In[")
    assert ", line 2, in <module>" in text.splitlines()[1]
    assert "interactiveshell" not in text
