"""Interrupts, input and background work."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from .harness import Worker


def children_of(pid: int) -> list[str]:
    """Pids of living children."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "time.sleep(60)",
        "await asyncio.sleep(60)",
        "await asyncio.create_task(asyncio.sleep(60))",
        "libc.sleep(1); time.sleep(60)",
        "while True: print('x' * 10)",
        "while True: print('e', file=sys.stderr)",
        "while True: display(1)",
        "subprocess.run(['sleep', '60'])",
        "get_ipython().system('sleep 60')",
        "threading.Event().wait()",
    ],
)
def test_an_interrupt_ends_the_cell_and_keeps_the_variables(shared: Worker, body: str) -> None:
    # One statement tells and is interrupted: while the next one is being compiled, there is no frame of
    # the cell to be named.
    execution = shared.start(
        "import asyncio, ctypes, subprocess, sys, threading, time\n"
        f"libc = ctypes.PyDLL(None)\nkept = 42\nif kept:\n    print('begun')\n    {body}"
    )
    shared.until_output(execution, "begun\n")
    before = time.monotonic()
    shared.interrupt()
    result = shared.wait(execution)
    assert time.monotonic() - before < 2.5
    assert result.end == "interrupted"
    assert result.outputs[-1].kind == "error", result.shape[-3:]
    error = result.outputs[-1].body
    assert error["name"] == "KeyboardInterrupt"
    assert error["frames"][0]["execution"] == execution
    assert shared.run("kept").shape == [("result", "42")]
    # subprocess.run has a moment of its own between making the child and minding it.
    if "subprocess.run" in body:
        shared.run(
            "import os, signal\nfor c in " + repr(children_of(shared.pid)) + ": os.kill(int(c), 9)\n"
            "while True:\n    try: os.wait()\n    except ChildProcessError: break"
        )
    assert children_of(shared.pid) == []


def test_a_late_interrupt_is_dropped(shared: Worker) -> None:
    shared.run("1")
    for _ in range(20):
        shared.interrupt()
    execution = shared.start("import time\ntime.sleep(0.3)\n'whole'")
    # The word still names the run before.
    for _ in range(20):
        shared.interrupt(shared.runs - 1)
        time.sleep(0.01)
    assert shared.wait(execution).shape == [("result", "'whole'")]


def test_interrupts_at_any_moment_never_lose_the_worker(worker: Worker) -> None:
    code = "print('a')\nimport sys\nprint('b', file=sys.stderr)\ndisplay(1)\nx = 1\nx"
    ends = set()
    for at in range(800):
        if at >= 400 and "interrupted" in ends:
            break
        execution = worker.start(code)
        # On a busy machine the cell has not even begun within the first millisecond; or within ten.
        step = 5e-6 if at < 200 else 50e-6 if at < 400 else 250e-6
        deadline = time.perf_counter() + (at % 200) * step
        while time.perf_counter() < deadline:
            pass
        worker.interrupt()
        end = worker.wait(execution).end
        ends.add(end if isinstance(end, str) else end["error"]["name"])
    assert "interrupted" in ends
    assert ends <= {"ok", "interrupted"}
    assert worker.run("1 + 1").shape == [("result", "2")]


@pytest.mark.parametrize("blocks", ["time.sleep(60)", "subprocess.run(['sleep', '60'])"])
def test_no_interrupt_is_slept_through(worker: Worker, blocks: str) -> None:
    # CPython alone sleeps through about one of 400 that come as the system call begins.
    worker.run("import subprocess, time")
    for _ in range(150):
        execution = worker.start(f"print('begun')\n{blocks}")
        worker.until_output(execution, "begun")
        worker.interrupt()
        assert worker.wait(execution).end == "interrupted"


def test_user_code_may_catch_and_be_interrupted_again(worker: Worker) -> None:
    execution = worker.start(
        "import time\ntry:\n    print('one')\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('two')\ntime.sleep(60)"
    )
    worker.until_output(execution, "one\n")
    worker.interrupt()
    worker.until_output(execution, "two\n")
    worker.interrupt()
    assert worker.wait(execution).end == "interrupted"


def test_a_caught_interrupt_is_no_interrupt(worker: Worker) -> None:
    execution = worker.start(
        "import time\ntry:\n    print('go')\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('caught')"
    )
    worker.until_output(execution, "go\n")
    worker.interrupt()
    result = worker.wait(execution)
    assert (result.end, result.stream("stdout")) == ("ok", "go\ncaught\n")


def test_a_keyboard_interrupt_of_the_codes_own_is_an_error(shared: Worker) -> None:
    assert shared.run("raise KeyboardInterrupt").end["error"]["name"] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    "spoil",
    [
        "signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "signal.signal(signal.SIGINT, signal.default_int_handler)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])",
    ],
)
def test_a_cell_that_spoils_the_signal_spoils_no_other(shared: Worker, spoil: str) -> None:
    shared.run(f"import signal\n_ = {spoil}")
    os.kill(shared.pid, signal.SIGINT)
    execution = shared.start("import time\nprint('go')\ntime.sleep(60)")
    shared.until_output(execution, "go\n")
    shared.interrupt()
    assert shared.wait(execution).end == "interrupted"


def test_a_background_task_that_spins_yields_to_an_interrupt(worker: Worker) -> None:
    execution = worker.start(
        "import asyncio\nasync def spin():\n    print('spinning')\n    while True: pass\n"
        "task = asyncio.create_task(spin())\nawait asyncio.sleep(60)"
    )
    worker.until_output(execution, "spinning\n")
    worker.interrupt()
    time.sleep(0.3)
    worker.interrupt()
    assert worker.wait(execution).end == "interrupted"
    assert worker.run("1").end == "ok"


# Input.


def answer(worker: Worker, execution: str, value: str) -> None:
    """Waits for the request and answers it."""
    worker._until(
        lambda: any(o.kind == "input_request" and o.execution == execution for o in worker.outputs) or None,
        "an input request",
    )
    worker.send({"input": {"value": value}})


def test_input_is_asked_behind_the_text_before_it(shared: Worker) -> None:
    execution = shared.start("print('hello', end='')\nname = input('who? ')\nname", allow_stdin=True)
    answer(shared, execution, "wörld")
    result = shared.wait(execution)
    assert [kind for kind, _ in result.shape] == ["stdout", "input_request", "result"]
    assert result.only("input_request").body == {"prompt": "who? ", "password": False}
    assert result.only("result").part("text/plain") == "'wörld'".encode()


def test_getpass_asks_for_a_password(shared: Worker) -> None:
    execution = shared.start("import getpass\nlen(getpass.getpass())", allow_stdin=True)
    answer(shared, execution, "secret")
    result = shared.wait(execution)
    assert result.only("input_request").body == {"prompt": "Password: ", "password": True}


@pytest.mark.parametrize("call", ["input()", "__import__('getpass').getpass()"])
def test_input_is_refused_clearly(shared: Worker, call: str) -> None:
    error = shared.run(call).only("error").body
    assert error["name"] == "StdinNotImplementedError"
    assert "does not allow input requests" in error["value"]
    assert (
        shared.run(f"try:\n    {call}\nexcept NotImplementedError:\n    print('refused')").stream("stdout")
        == "refused\n"
    )


def test_input_can_be_interrupted(shared: Worker) -> None:
    execution = shared.start("input('never')", allow_stdin=True)
    shared._until(lambda: any(o.execution == execution for o in shared.outputs) or None, "the request")
    shared.interrupt()
    assert shared.wait(execution).end == "interrupted"
    # An answer that comes too late is dropped.
    shared.send({"input": {"value": "late"}})
    assert shared.run("1").end == "ok"


# The loop.


def test_a_task_goes_on_between_cells_and_keeps_its_execution(worker: Worker) -> None:
    maker = worker.start(
        "import asyncio\nasync def tick():\n    for i in range(4):\n        await asyncio.sleep(0.05)\n"
        "        print('tick', i)\n        display(i)\ntask = asyncio.create_task(tick())"
    )
    worker.wait(maker)
    time.sleep(0.12)
    other = worker.run("print('other')\nawait task\nprint('done')")
    mine = worker.wait(maker)
    assert mine.stream("stdout") == "".join(f"tick {i}\n" for i in range(4))
    assert [text for kind, text in mine.shape if kind == "display"] == ["0", "1", "2", "3"]
    assert other.stream("stdout") == "other\ndone\n"


def test_a_thread_belongs_to_its_cell(worker: Worker) -> None:
    maker = worker.start(
        "import threading, time\ndef work():\n    for i in range(4):\n        time.sleep(0.05)\n"
        "        print('work', i)\n        display(i)\n"
        "thread = threading.Thread(target=work)\nthread.start()"
    )
    worker.wait(maker)
    other = worker.run("for i in range(20):\n    print('mine')\n    time.sleep(0.01)\nthread.join()")
    assert worker.wait(maker).stream("stdout") == "".join(f"work {i}\n" for i in range(4))
    assert other.stream("stdout") == "mine\n" * 20


def test_the_running_loop_is_the_workers(shared: Worker) -> None:
    result = shared.run("import asyncio\nasyncio.get_event_loop() is asyncio.get_running_loop()")
    assert result.shape == [("result", "True")]
    assert shared.run("asyncio.run(asyncio.sleep(0))").end["error"]["name"] == "RuntimeError"


def test_context_variables_stay_from_cell_to_cell(shared: Worker) -> None:
    shared.run("import decimal\ndecimal.getcontext().prec = 3")
    assert shared.run("decimal.Decimal(1) / 3").shape == [("result", "Decimal('0.333')")]
    shared.run("decimal.getcontext().prec = 5\nawait __import__('asyncio').sleep(0)")
    assert shared.run("decimal.Decimal(1) / 3").shape == [("result", "Decimal('0.33333')")]


@pytest.mark.parametrize("raised", ["SystemExit", "KeyboardInterrupt", "ValueError"])
def test_a_background_task_cannot_end_the_worker(worker: Worker, raised: str) -> None:
    worker.run(
        "import asyncio\nasync def fail():\n    await asyncio.sleep(0.01)\n"
        f"    raise {raised}\ntask = asyncio.create_task(fail())"
    )
    assert worker.run("await asyncio.sleep(0.1)\n1").end == "ok"


def test_cells_queue_behind_one_that_awaits(worker: Worker) -> None:
    first = worker.start("import asyncio\nawait asyncio.sleep(0.2)\nprint('first')")
    second = worker.start("print('second')")
    assert worker.wait(second).stream("stdout") == "second\n"
    assert worker.wait(first).stream("stdout") == "first\n"
    assert list(worker.finished) == [first, second]
