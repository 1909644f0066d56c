"""How long a sandbox takes to be there, and to be gone with 200 processes in it; beside bubblewrap's.

cellblock's sandbox is there when its shim says so, without the start of Python; bubblewrap's time is from its
start to the end of `true` in it, so it has two execs more.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import time
from functools import partial
from typing import Final

import cellblock
from bench.memory import descendants
from bench.parts.start import EXEC, PROFILES, profiles
from bench.peers import BenchError, run_in_cellblock
from bench.rows import CELLBLOCK, Row, Turn, take_turns
from bench.setup import Setup

BWRAP: Final = "bwrap"
PROCESSES: Final = 200
# All ignore what can be ignored. Half of them are busy, from the moment in which all are there: before it,
# they would hold up whoever makes the others.
_BEGIN: Final = """
import os, signal, subprocess, time
for what in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(what, signal.SIG_IGN)
wait, go = os.pipe()
"""
SWARMS: Final = {
    "forks of its Python": f"""{_BEGIN}
for number in range({PROCESSES - 1}):
    if os.fork() == 0:
        os.close(go)
        os.read(wait, 1)
        while number % 2: pass
        while True: time.sleep(60)
os.close(go)
""",
    "shells": f"""{_BEGIN}
scripts = ["exec sleep 60", "read word; while :; do :; done"]
swarm = [
    subprocess.Popen(["sh", "-c", scripts[number % 2]], stdin=wait) for number in range({PROCESSES - 1})
]
os.close(go)
""",
}
_GONE_SECONDS: Final = 30.0


def measure(setup: Setup) -> list[Row]:
    """The rows."""
    made = Row("sandbox", "sandbox made, without Python")
    gone = {name: Row("sandbox", f"gone with {PROCESSES} processes, {name}") for name in SWARMS}
    rows = [made, *gone.values()]
    with setup.daemon(profiles(setup, EXEC)) as daemon:
        turns = [Turn(CELLBLOCK, "cellblock", lambda: _made(daemon.client))]
        if setup.bwrap is None:
            for row in rows:
                row.absent[BWRAP] = "no bwrap on PATH (Debian: bubblewrap)"
        else:
            turns.append(Turn(BWRAP, "peer", lambda: _bwrap_made(setup)))
        take_turns(made, turns, setup.rounds(50, 10))
        for name, row in gone.items():
            turns = [Turn(CELLBLOCK, "cellblock", partial(_gone, daemon.client, SWARMS[name]))]
            if setup.bwrap is not None:
                turns.append(Turn(BWRAP, "peer", partial(_bwrap_gone, setup, SWARMS[name])))
            take_turns(row, turns, setup.rounds(10, 2))
            row.must(CELLBLOCK, "p99", 50)
    return rows


def _made(client: cellblock.Client) -> float:
    notebook = client.open(f"made-{next(_NUMBERS)}", PROFILES[EXEC][0])
    run_in_cellblock(notebook, "1+1", "2")
    made = notebook.status().made_seconds
    notebook.delete()
    if made is None:
        raise BenchError("cellblockd does not say how long the sandbox took")
    return 1e3 * made


def _gone(client: cellblock.Client, swarm: str) -> float:
    """From the request to the last process gone."""
    notebook = client.open(f"gone-{next(_NUMBERS)}")
    notebook.execute(swarm).result().raise_for_error()
    worker = notebook.status().worker_pid
    if worker is None:
        raise BenchError("the notebook has no worker")
    waiting = Gone(descendants(worker))
    began = time.perf_counter()
    notebook.restart()
    milliseconds = 1e3 * (waiting.wait() - began)
    notebook.delete()
    return milliseconds


def _bwrap_made(setup: Setup) -> float:
    assert setup.bwrap is not None
    began = time.perf_counter()
    subprocess.run([*setup.bwrap, "true"], check=True)
    return 1e3 * (time.perf_counter() - began)


def _bwrap_gone(setup: Setup, swarm: str) -> float:
    """From the kill of its pid 1 to the last process gone."""
    assert setup.bwrap is not None
    script = f"{swarm}\nprint('ready', flush=True)\ntime.sleep(60)"
    command = [*setup.bwrap, str(setup.python), "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise BenchError("the processes in bwrap did not start")
        _, init, *others = descendants(process.pid)
        waiting = Gone([init, *others])
        began = time.perf_counter()
        os.kill(init, signal.SIGKILL)
        milliseconds = 1e3 * (waiting.wait() - began)
        process.kill()
    return milliseconds


class Gone:
    """Waits for processes to be nobody any more, by descriptors taken while they live."""

    def __init__(self, pids: list[int]) -> None:
        if len(pids) < PROCESSES:
            raise BenchError(f"there are {len(pids)} processes instead of {PROCESSES}")
        self._files = {os.pidfd_open(pid) for pid in pids}

    def wait(self) -> float:
        """The moment, by the clock of `time.perf_counter`."""
        poll = select.poll()
        for file in self._files:
            poll.register(file, select.POLLIN)
        until = time.perf_counter() + _GONE_SECONDS
        while self._files:
            for file, _ in poll.poll(1000):
                poll.unregister(file)
                os.close(file)
                self._files.remove(file)
            if time.perf_counter() > until:
                raise BenchError(f"{len(self._files)} processes are left after {_GONE_SECONDS:.0f} s")
        return time.perf_counter()


_NUMBERS = itertools.count(1)
