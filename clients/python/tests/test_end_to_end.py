"""The client, the real cellblockd, real workers. Waits are bounded by the client's own timeouts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import uuid
from pathlib import Path

import pytest

import cellblock
from cellblock import AsyncClient, Client, Display, LocalSupervisor, Notebook, Result, Stream

SECONDS = 60.0
"""More than any of these takes on a slow machine, less than a person waits."""


def run(notebook: Notebook, code: str, **options: float) -> cellblock.Completed:
    return notebook.execute(code, **options).result(timeout=SECONDS)  # type: ignore[arg-type]


def test_hello_world(notebook: Notebook) -> None:
    result = run(
        notebook, "import sys\nprint('hello')\nprint('oops', file=sys.stderr)\n6 * 7"
    ).raise_for_error()
    assert (result.stdout, result.stderr) == ("hello\n", "oops\n")
    value = result.outputs[-1]
    assert isinstance(value, Result)
    assert (value.bundle.text(), value.execution_count) == ("42", 1)
    assert result.outcome.wall_seconds < SECONDS


def test_variables_last_from_one_execution_to_the_next(notebook: Notebook) -> None:
    first = run(notebook, "x = [1, 2]")
    assert [name.name for name in first.outcome.names.added] == ["x"]
    assert run(notebook, "print(x)").stdout == "[1, 2]\n"
    assert "x" in [name.name for name in notebook.variables()]


def test_output_is_seen_while_the_code_runs(notebook: Notebook) -> None:
    execution = notebook.execute("print('ready')\ninput()", allow_stdin=True, timeout=SECONDS)
    first = next(execution)
    assert isinstance(first, Stream)
    assert first.text == "ready\n"
    assert isinstance(next(execution), cellblock.InputRequest)
    assert notebook.status().info.state == "busy"
    execution.answer("go")
    assert execution.wait().ok


def test_text_of_python_c_and_subprocesses_is_in_one_order(notebook: Notebook) -> None:
    code = (
        "import os, subprocess\nprint('a')\nos.write(1, b'b\\n')\nsubprocess.run(['echo', 'c'])\nprint('d')"
    )
    assert run(notebook, code).stdout.split() == ["a", "b", "c", "d"]


def test_a_figure_is_a_png(notebook: Notebook) -> None:
    result = run(notebook, "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()")
    [figure] = [output for output in result.raise_for_error().outputs if isinstance(output, Display)]
    assert figure.bundle["image/png"].startswith(b"\x89PNG\r\n\x1a\n")


def test_a_table_is_html_and_text(notebook: Notebook) -> None:
    result = run(notebook, "import pandas\npandas.DataFrame({'a': [1, 2]})").raise_for_error()
    table = result.outputs[-1]
    assert isinstance(table, Result)
    assert "<table" in table.bundle.text("text/html")
    assert "0  1" in table.bundle.text()


def test_an_error_names_the_lines_of_the_cell(notebook: Notebook) -> None:
    code = """\
def f(d):
    return d['x']

try:
    f({})
except KeyError as error:
    raise ValueError('no x') from error
"""
    result = run(notebook, code)
    assert result.outcome.end == cellblock.Raised("ValueError", "no x")
    assert result.outcome.lost is None
    error = result.error
    assert error is not None
    assert [frame.line for frame in error.frames if frame.execution] == [7]
    [cause] = error.causes
    assert (cause.name, cause.explicit) == ("KeyError", True)
    assert [(frame.line, frame.function) for frame in cause.frames][-1] == (2, "f")
    with pytest.raises(cellblock.ExecutionFailed, match="ValueError: no x"):
        result.raise_for_error()


@pytest.mark.parametrize("end", ["os._exit(1)", "os.abort()", "os.kill(os.getpid(), 9)"])
def test_what_was_printed_before_the_process_ends_itself_arrives(notebook: Notebook, end: str) -> None:
    result = run(notebook, f"import os\nfor i in range(200): print(i)\n{end}")
    assert isinstance(result.outcome.end, cellblock.WorkerDied)
    assert result.stdout.split() == [str(number) for number in range(200)]


def test_interrupt_keeps_the_variables(notebook: Notebook) -> None:
    execution = notebook.execute("x = 1\nprint('on', flush=True)\nwhile True: pass", timeout=SECONDS)
    next(execution)
    notebook.interrupt()
    outcome = execution.wait()
    assert (outcome.kind, outcome.lost) == ("interrupted", None)
    assert run(notebook, "print(x)").stdout == "1\n"


def test_wall_time_keeps_the_variables(notebook: Notebook) -> None:
    result = run(notebook, "y = 2\nwhile True: pass", wall_seconds=0.5)
    assert result.outcome.end == cellblock.TimedOut(0.5)
    assert run(notebook, "print(y)").stdout == "2\n"


def test_what_waits_can_be_cancelled(notebook: Notebook) -> None:
    running = notebook.execute("print('on')\nwhile True: pass", timeout=SECONDS)
    next(running)
    waiting = notebook.execute("print('never')", timeout=SECONDS)
    waiting.wait_accepted()
    waiting.cancel()
    assert waiting.wait().kind == "cancelled"
    running.cancel()
    assert running.wait().kind == "interrupted"


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("import os; os._exit(3)", cellblock.WorkerDied("exited", code=3)),
        ("import os; os.kill(os.getpid(), 9)", cellblock.WorkerDied("signalled", signal=9)),
        ("import ctypes; ctypes.string_at(0)", cellblock.WorkerDied("signalled", signal=11)),
    ],
)
def test_a_dead_worker_is_replaced_and_what_was_lost_is_named(
    notebook: Notebook, code: str, end: cellblock.WorkerDied
) -> None:
    # What can be saved comes back.
    run(notebook, "kept = 1; kept_here = __import__('threading').Lock()").raise_for_error()
    result = run(notebook, f"print('last words', flush=True)\n{code}")
    assert result.outcome.end == end
    assert result.stdout == "last words\n"
    assert result.outcome.lost == ("kept", "kept_here")
    after = run(notebook, "print('alive', kept)")
    assert after.stdout == "alive 1\n"
    [notice] = [output for output in after.outputs if isinstance(output, cellblock.Notice)]
    assert (notice.topic, notice.names) == ("variables_lost", ("kept_here",))


def test_input_is_answered(notebook: Notebook) -> None:
    code = "name = input('Name: ')\nprint('hello', name)"
    execution = notebook.execute(code, on_input=lambda request: f"Ada ({request.prompt})", timeout=SECONDS)
    assert execution.result().stdout == "hello Ada (Name: )\n"
    assert run(notebook, "input()").outcome.kind == "error"


def test_user_expressions(notebook: Notebook) -> None:
    outcome = notebook.execute("a = 20", user_expressions={"b": "a + 1", "c": "1/0"}).wait(SECONDS)
    value, failed = outcome.expressions["b"], outcome.expressions["c"]
    assert isinstance(value, cellblock.Bundle)
    assert value.text() == "21"
    assert isinstance(failed, cellblock.ExpressionError)
    assert failed.name == "ZeroDivisionError"


def test_what_an_editor_asks(notebook: Notebook) -> None:
    run(notebook, "wörter = ['a']").raise_for_error()
    completions = notebook.complete("x = wört")
    assert ("wörter", 4, 8) in [
        (match.text, completions.start, completions.end) for match in completions.matches
    ]
    assert notebook.is_complete("for x in y:").status == "incomplete"
    found = notebook.inspect("len(")
    assert found is not None
    assert "len" in found.text()
    assert notebook.inspect("no_such_name") is None
    assert notebook.history()[-1][1] == "wörter = ['a']"


def test_queries_are_busy_while_code_runs(notebook: Notebook) -> None:
    execution = notebook.execute("print('on')\nwhile True: pass", timeout=SECONDS)
    next(execution)
    with pytest.raises(cellblock.Busy):
        notebook.complete("x")
    execution.cancel()
    execution.wait()


def test_two_notebooks_run_at_the_same_time(client: Client) -> None:
    """Each waits for the other's word, so one after the other would never end."""
    notebooks = [client.open(f"pair-{number}-{uuid.uuid4().hex[:8]}") for number in range(2)]
    barrier = threading.Barrier(2, timeout=SECONDS)

    def meet(request: cellblock.InputRequest) -> str:
        barrier.wait()
        return "met"

    results: list[str] = []

    def work(notebook: Notebook) -> None:
        results.append(notebook.execute("print(input())", on_input=meet).result(SECONDS).stdout)

    threads = [threading.Thread(target=work, args=(notebook,)) for notebook in notebooks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for notebook in notebooks:
        notebook.delete()
    assert results == ["met\n", "met\n"]


def test_reattaching_misses_nothing_and_repeats_nothing(notebook: Notebook) -> None:
    code = "for i in range(2000): print(f'line {i}')"
    with notebook.execute(code, timeout=SECONDS) as execution:
        got = [next(execution)]
    again = notebook.attach(execution.id, from_seq=1).result(SECONDS)
    assert again.outcome.ok
    outputs = got + again.outputs
    assert [output.seq for output in outputs] == list(range(len(outputs)))
    text = "".join(output.text for output in outputs if isinstance(output, Stream))
    assert text == "".join(f"line {i}\n" for i in range(2000))


def test_a_killed_daemon_costs_no_byte(supervisor: LocalSupervisor, tmp_path: Path) -> None:
    """SIGKILL while 20 MB are printed; another daemon takes the worker over; the client gets back."""
    lines = 1_000_000
    # Private, so that whatever happens the last one takes all workers with it.
    command = [
        f"{os.environ['CELLBLOCK_BIN_DIR']}/cellblockd",
        "--private",
        f"--runtime-dir=/tmp/cb-again-{uuid.uuid4().hex[:8]}",
        f"--state-dir={tmp_path}",
        f"--python={os.environ['CELLBLOCK_TEST_PYTHON']}",
    ]
    with Daemon(command) as first:
        client = Client.connect(first.socket_path, timeout=SECONDS, reconnect_seconds=SECONDS)
        code = f"for i in range({lines}): print(f'line {{i:014}}')"
        execution = client.open("n").execute(code, timeout=SECONDS)
        got = [next(execution) for _ in range(50)]
        first.process.kill()
        first.process.wait()
    with Daemon(command), client:
        rest = execution.result()
        assert rest.outcome.ok
        assert rest.outcome.lost is None
        data = b"".join(output.data for output in got + rest.outputs if isinstance(output, Stream))
        assert data == b"".join(b"line %014d\n" % i for i in range(lines))


class Daemon:
    """A cellblockd that is started by hand."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.socket_path = self.process.stdout.readline().decode().split()[1]

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        # Closes the lifeline, then waits.
        self.process.communicate(timeout=SECONDS)


def test_the_same_execution_id_runs_once(notebook: Notebook) -> None:
    run(notebook, "n = 0").raise_for_error()
    both = [notebook.execute("n += 1\nprint(n)", execution_id="once").result(SECONDS) for _ in range(2)]
    assert [result.stdout for result in both] == ["1\n", "1\n"]
    assert run(notebook, "print(n)").stdout == "1\n"


def test_a_large_output_arrives_whole(notebook: Notebook) -> None:
    result = run(notebook, "import sys\nfor i in range(200): sys.stdout.write(f'{i:07}' * 10_000)")
    assert result.stdout == "".join(f"{i:07}" * 10_000 for i in range(200))


def test_restart_forgets_and_status_tells(notebook: Notebook) -> None:
    run(notebook, "z = 3").raise_for_error()
    status = notebook.status()
    assert status.info.state == "idle"
    assert status.python is not None
    assert "CPython" in status.python
    assert [name.name for name in status.names] == ["z"]
    assert status.report
    assert all(barrier.state != "missing" for barrier in status.report if barrier.barrier == "namespaces")
    notebook.restart()
    assert run(notebook, "z").outcome.end == cellblock.Raised("NameError", "name 'z' is not defined")


def test_refusals_name_the_thing(client: Client, notebook: Notebook) -> None:
    with pytest.raises(cellblock.BadRequest, match=r"a/b"):
        client.open("a/b")
    with pytest.raises(cellblock.BadRequest):
        client.open("n" * 4096)
    with pytest.raises(cellblock.BadProfile, match="no-such-profile"):
        client.open("fresh", profile="no-such-profile")
    with pytest.raises(cellblock.UnknownExecution, match="no-such-execution"):
        notebook.attach("no-such-execution").wait(SECONDS)
    gone = client.open(f"gone-{uuid.uuid4().hex}")
    gone.close()
    with pytest.raises(cellblock.UnknownNotebook, match=gone.name):
        gone.execute("1").wait(SECONDS)


def test_notebooks_and_doctor(client: Client, notebook: Notebook) -> None:
    assert notebook.name in [info.name for info in client.notebooks()]
    assert client.doctor()


def test_profiles_and_plans(client: Client) -> None:
    builtin = {info.name for info in client.profiles() if info.usable and info.builtin}
    assert {"default", "strict", "data-science", "trusted"} <= builtin
    steps = client.plan()
    assert steps == client.plan("default")
    assert {step.actor for step in steps} == {"shim", "init", "worker", "watch"}
    assert any(step.action == "pivot" and step.required for step in steps)
    assert [step.action for step in client.plan("trusted") if step.barrier == "network"] == ["loopback_up"]
    with pytest.raises(cellblock.BadProfile, match="no profile"):
        client.plan("nowhere")
    # Nothing was made.
    assert "NOTEBOOK" not in [info.name for info in client.notebooks()]


def test_async_client(supervisor: LocalSupervisor) -> None:
    async def one(client: AsyncClient, number: int) -> str:
        notebook = await client.open(f"async-{number}-{uuid.uuid4().hex[:8]}")
        texts = [
            output.text
            async for output in await notebook.execute(f"print({number})\nprint('end')", timeout=SECONDS)
            if isinstance(output, Stream)
        ]
        await notebook.delete()
        return "".join(texts)

    async def main() -> list[str]:
        async with await AsyncClient.connect(supervisor.socket_path, timeout=SECONDS) as client:
            assert "strict" in [info.name for info in await client.profiles()]
            assert (await client.plan())[0].actor == "shim"
            return await asyncio.gather(*(one(client, number) for number in range(3)))

    assert asyncio.run(main()) == [f"{number}\nend\n" for number in range(3)]


def test_a_private_daemon_leaves_nothing_behind(supervisor: LocalSupervisor) -> None:
    with LocalSupervisor(python=os.environ["CELLBLOCK_TEST_PYTHON"]) as own, own.client() as client:
        notebook = client.open("n")
        assert run(notebook, "1").outcome.ok
        worker = notebook.status().worker_pid
        pids, folder = [own.pid, worker], own.socket_path.parent
    assert worker is not None
    assert not folder.exists()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    with pytest.raises(cellblock.SupervisorNotRunning):
        Client.connect(own.socket_path)
