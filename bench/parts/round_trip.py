"""`1+1` in a worker that is there and warm, to its result and its end in the client's hand."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.peers import BenchError, end_kernel, run_in_cellblock, run_in_kernel, start_kernel
from bench.rows import CELLBLOCK, JUPYTER, Row, Turn, take_turns
from bench.setup import Setup

CODE: Final = "1+1"
RESULT: Final = "2"
FLOOR: Final = "socketpair + IPython run_cell"
RUNS: Final = 900
"""With those that warm up less than 1,000, where IPython empties `Out` and says so."""
WARM_UPS: Final = 20
"""Adaptive interpreter, connections, caches."""


def measure(setup: Setup) -> list[Row]:
    """The row."""
    manager, kernel = start_kernel()
    try:
        with setup.daemon() as daemon, bare_shell(setup) as floor:
            notebook = daemon.client.open("warm")
            row = take_turns(
                Row("round-trip", "1+1 round trip"),
                [
                    Turn(CELLBLOCK, "cellblock", timed(lambda: run_in_cellblock(notebook, CODE, RESULT))),
                    Turn(JUPYTER, "peer", timed(lambda: run_in_kernel(kernel, CODE, RESULT))),
                    Turn(FLOOR, "floor", floor),
                ],
                setup.rounds(RUNS, 200),
                WARM_UPS,
            )
    finally:
        end_kernel(manager, kernel)
    row.must_be_times_better(CELLBLOCK, 20)
    row.must_be_near(CELLBLOCK, FLOOR, 3)
    return [row]


def timed(run: Callable[[], None]) -> Callable[[], float]:
    """Milliseconds of it."""

    def run_timed() -> float:
        began = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - began)

    return run_timed


@contextlib.contextmanager
def bare_shell(setup: Setup) -> Iterator[Callable[[], float]]:
    """bare_shell.py behind a socket pair, and what asks it for one run."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command: list[str | Path] = [setup.python, Path(__file__).parent.parent / "bare_shell.py", CODE]
        with subprocess.Popen(command, stdin=theirs.fileno()) as process:
            theirs.close()
            if ours.recv(100) != b"ready":
                raise BenchError("the bare shell did not start")

            def run() -> None:
                ours.send(b"?")
                if (result := ours.recv(100)) != RESULT.encode():
                    raise BenchError(f"the bare shell answered {result!r}")

            try:
                yield timed(run)
            finally:
                process.kill()
