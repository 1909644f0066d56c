"""The total order of everything a cell puts out is the order in which it did it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import Worker

SEED = int(os.environ.get("CELLBLOCK_ORDER_SEED", "2"))
PROGRAMS = int(os.environ.get("CELLBLOCK_ORDER_PROGRAMS", "300"))

SETUP = """
import ctypes, os, subprocess, sys, threading, multiprocessing, warnings
# CPython 3.12 warns after a join() too: the thread takes a moment to leave /proc.
warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork")
from IPython.display import display, HTML
libc = None
def c_library():
    global libc
    libc = libc or ctypes.CDLL(None)
    return libc
def c_out(text):
    c_library().printf(b"%s", text.encode()); libc.fflush(None)
def c_err(text):
    c_library().dprintf(2, b"%s", text.encode())
def forked(text, fd=1):
    pid = os.fork()
    if pid == 0:
        print(text, file=sys.stdout if fd == 1 else sys.stderr, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
def threaded(text):
    thread = threading.Thread(target=print, args=(text,)); thread.start(); thread.join()
"""

# (statement, kind, text as a function of the token)
Operation = tuple[str, str, Callable[[str], str]]


def line(text: str) -> str:
    return text + "\n"


def same(text: str) -> str:
    return text


PYTHON: list[Operation] = [
    ("print({t!r})", "stdout", line),
    ("print({t!r}, end='')", "stdout", same),
    ("sys.stdout.write({t!r})", "stdout", same),
    ("_ = sys.stdout.buffer.write({t!r}.encode())", "stdout", same),
    ("print({t!r}, file=sys.stderr)", "stderr", line),
    ("_ = sys.stderr.write({t!r})", "stderr", same),
    ("_ = os.write(1, {t!r}.encode())", "stdout", same),
    ("_ = os.write(2, {t!r}.encode())", "stderr", same),
    ("display({t!r})", "display", repr),
    ("for _ in range(300): print({t!r})", "stdout", lambda t: (t + "\n") * 300),
]
CHILDREN: list[Operation] = [
    ("_ = subprocess.run(['echo', {t!r}])", "stdout", line),
    ("_ = subprocess.run('echo {t} >&2', shell=True)", "stderr", line),
    ("_ = os.system('echo {t}')", "stdout", line),
    ("forked({t!r})", "stdout", line),
    ("forked({t!r}, 2)", "stderr", line),
    ("threaded({t!r})", "stdout", line),
    ("get_ipython().system('echo {t}')", "stdout", line),
]
FOREIGN: list[Operation] = [("c_out({t!r})", "stdout", same), ("c_err({t!r})", "stderr", same)]


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("python", PYTHON),
        ("children", [*PYTHON, *CHILDREN]),
        ("foreign", [*PYTHON, *CHILDREN, *FOREIGN]),
    ],
)
def test_random_programs_come_out_in_their_order(
    worker: Worker, name: str, operations: list[Operation]
) -> None:
    chance = random.Random(f"{name} {SEED}")
    assert worker.run(SETUP).end == "ok"
    for number in range(PROGRAMS // 3):
        statements: list[str] = []
        expected: list[tuple[str, str]] = []
        for step in range(chance.randint(2, 14)):
            statement, kind, text = chance.choice(operations)
            if statement.startswith("c_out") and statements and statements[-1].startswith("c_err"):
                # C to C across the two pipes, nothing of Python's in between: nobody can see it.
                continue
            token = f"<{number}.{step}>"
            statements.append(statement.replace("{t!r}", repr(token)).replace("{t}", token.strip("<>")))
            token = token if "{t!r}" in statement else token.strip("<>")
            if kind != "display" and expected and expected[-1][0] == kind:
                expected[-1] = (kind, expected[-1][1] + text(token))
            else:
                expected.append((kind, text(token)))
        if chance.random() < 0.2:
            statements.append("1/0")
            expected.append(("error", "ZeroDivisionError"))
        statements = [s if not s.startswith("sys.") else f"_ = {s}" for s in statements]
        result = worker.run("\n".join(statements))
        assert result.shape == expected, "\n".join(statements)


def test_python_needs_no_order_between_marks(worker: Worker) -> None:
    # Where only Python writes, no stretch between two marks has text of both streams.
    worker.run("import os, sys\nprint('a')\nprint('b', file=sys.stderr)\n_ = os.write(2, b'c')\nprint('d')")
    assert not any(out and err for out, err in zip(worker.out.stretches, worker.err.stretches, strict=True))


def test_foreign_text_within_fast_prints_is_in_order(worker: Worker) -> None:
    worker.run(SETUP)
    result = worker.run("for i in range(500):\n    print(i)\n    c_out(f'c{i}\\n')")
    assert result.stream("stdout") == "".join(f"{i}\nc{i}\n" for i in range(500))


def test_a_burst_is_out_before_a_long_sleep(worker: Worker) -> None:
    execution = worker.start("import time\nfor i in range(1000): print(i)\ntime.sleep(20)")
    worker.until_output(execution, "999\n")
    worker.interrupt()
    assert worker.wait(execution).end == "interrupted"


def test_dots_are_out_before_their_line_ends(worker: Worker) -> None:
    execution = worker.start("import time\nprint('.', end='')\ntime.sleep(20)")
    worker.until_output(execution, ".")
    worker.interrupt()
    worker.wait(execution)


def test_lines_of_threads_stay_whole(shared: Worker) -> None:
    result = shared.run(
        "import threading\n"
        "def say(name):\n"
        "    for i in range(300): print(f'{name} {i}')\n"
        "threads = [threading.Thread(target=say, args=(n,)) for n in 'abcd']\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()"
    )
    lines = result.stream("stdout").splitlines()
    assert sorted(lines) == sorted(f"{name} {i}" for name in "abcd" for i in range(300))
    for name in "abcd":
        assert [x for x in lines if x[0] == name] == [f"{name} {i}" for i in range(300)]


def test_multiprocessing_children_print(shared: Worker) -> None:
    result = shared.run(
        "import multiprocessing\n"
        "context = multiprocessing.get_context('fork')\n"
        "print('before', end='')\n"
        "process = context.Process(target=print, args=('child',)); process.start(); process.join()\n"
        "print('after')"
    )
    assert result.stream("stdout") == "beforechild\nafter\n"


def test_fork_duplicates_nothing_and_a_child_that_runs_on_ends_quietly(shared: Worker) -> None:
    result = shared.run(
        "import os, sys\n"
        "for _ in range(500): print('p')\n"
        "print('pending', end='')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    print('child')\n"
        "    display('shown')\n"
        "else:\n"
        "    print(os.waitpid(pid, 0)[1])"
    )
    assert result.end == "ok"
    assert result.stream("stdout") == "p\n" * 500 + "pendingchild\n'shown'\n0\n"
    assert shared.run("1+1").shape == [("result", "2")]


@pytest.mark.parametrize(
    ("end", "status", "shown"),
    [("sys.exit(7)", 7, ""), ("raise ValueError('in the child')", 1, "in the child")],
)
def test_a_forked_child_that_fails_has_no_frames(shared: Worker, end: str, status: int, shown: str) -> None:
    result = shared.run(
        f"import os, sys\npid = os.fork()\nif pid == 0:\n    {end}\n"
        "os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )
    assert result.end == "ok"
    assert result.only("result").part("text/plain") == str(status).encode()
    assert shown in result.stream("stderr")


def test_forked_children_do_not_hold_the_channel(shared: Worker) -> None:
    result = shared.run(
        "import os, subprocess\n"
        "ours = {os.readlink(f'/proc/self/fd/{fd}') for fd in (3, 4)}\n"
        "def held(pid):\n"
        "    for fd in os.listdir(f'/proc/{pid}/fd'):\n"
        "        try:\n"
        "            if os.readlink(f'/proc/{pid}/fd/{fd}') in ours: yield fd\n"
        "        except OSError: pass\n"
        "print(sorted(held('self'))[:2])\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    print(list(held('self')), flush=True); os._exit(0)\n"
        "_ = os.waitpid(pid, 0)\n"
        "process = subprocess.Popen(['cat'], stdin=subprocess.PIPE, close_fds=False)\n"
        "print(list(held(process.pid)))\n"
        "_ = process.communicate()"
    )
    # The page stays as the parent's mapping; its descriptor goes as well.
    assert result.stream("stdout").splitlines()[1:] == ["[]", "[]"], result.stream("stdout")


def test_replaced_streams_are_left_alone(shared: Worker) -> None:
    result = shared.run(
        "import contextlib, io, sys\n"
        "with contextlib.redirect_stdout(io.StringIO()) as caught:\n"
        "    print('caught')\n"
        "    display('shown')\n"
        "saved, sys.stdout = sys.stdout, io.StringIO()\n"
        "print('lost')\n"
        "sys.stdout = saved\n"
        "print(caught.getvalue(), end='')"
    )
    assert result.shape == [("display", "'shown'"), ("stdout", "caught\n")]


def test_a_closed_stdout_does_not_end_the_worker(worker: Worker) -> None:
    assert worker.run("import sys\nsys.stdout.close()").end == "ok"
    assert worker.run("1+1").shape == [("result", "2")]
    assert worker.run("import os\n_ = os.write(1, b'still')").stream("stdout") == "still"


def test_surrogates_and_binary_are_text_somehow(shared: Worker) -> None:
    result = shared.run("print('\\udc80')\nraise ValueError('\\udc80')")
    assert result.stream("stdout") == "\\udc80\n"
    assert result.only("error").body["value"] == "?"


def test_a_nonblocking_pipe_loses_nothing(shared: Worker) -> None:
    result = shared.run(
        "import os, sys\nos.set_blocking(1, False)\n"
        "print('x' * 300_000)\nprint('e', file=sys.stderr)\nprint('y' * 300_000)\nos.set_blocking(1, True)"
    )
    assert [(kind, len(text)) for kind, text in result.shape] == [
        ("stdout", 300_001),
        ("stderr", 2),
        ("stdout", 300_001),
    ]


def test_descriptors_of_the_streams_are_real(shared: Worker) -> None:
    result = shared.run("import sys\n(sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.isatty())")
    assert result.shape == [("result", "(1, 2, False)")]


def test_text_between_two_cells_is_its_own_executions_and_silence_needs_no_frame(
    worker: Worker, tmp_path: Path
) -> None:
    first = worker.start(
        "import os, threading, time\n"
        "def later():\n"
        "    while not os.path.exists('go'): time.sleep(0.01)\n"
        "    print('late')\n"
        "    open('said', 'w').close()\n"
        "threading.Thread(target=later).start()\n"
        "print('now')"
    )
    worker.wait(first)
    there = len(worker.frames)
    worker.run("x = 1")
    bodies = [frame.meta["body"] for frame in worker.frames[there:]]
    assert [next(iter(body)) for body in bodies] == ["finished"], bodies
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 30
    while not (tmp_path / "said").exists():
        assert time.monotonic() < deadline
    # The shim reads what the thread has written when it has begun the next one already.
    assert worker.run("print('mine')").shape == [("stdout", "mine\n")]
    assert worker.text[first] == b"now\nlate\n"
