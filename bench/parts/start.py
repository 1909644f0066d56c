"""From "I want to run code somewhere new" to its first result in the client's hand."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.peers import BenchError, end_kernel, run_in_cellblock, run_in_kernel, start_kernel
from bench.rows import BWRAP, JUPYTER, Row, Turn, take_turns
from bench.setup import NO_WARM_START, Daemon, Setup

EXPRESSIONS: Final = {
    "pandas": ("import pandas as pd", "int(pd.Series([1, 1]).sum())"),
    "1+1": ("", "1+1"),
}
"""What is run: a statement, and the expression whose value is the result."""
RESULT: Final = "2"

SPARE: Final = "cellblock, spare"
ZYGOTE: Final = "cellblock, zygote"
EXEC: Final = "cellblock, exec"
FLOOR: Final = "bare clone3 + exec"
WARM_FLOOR: Final = "bare clone3 of a warm Python"
PROFILES: Final = {
    SPARE: ("bench-spare", 'warm_start = "zygote"\nspares = 2\n'),
    ZYGOTE: ("bench-zygote", 'warm_start = "zygote"\nspares = 0\n'),
    EXEC: ("bench-exec", 'warm_start = "exec"\nspares = 0\n'),
}
"""By engine; everything else is the default profile's, the imports of the zygote too."""


def profiles(setup: Setup, *engines: str) -> dict[str, str]:
    """Files for `--profiles`. A cellblockd without warm start knows one kind of start and no key for it."""
    found = {}
    for engine in engines:
        name, keys = PROFILES[engine]
        if setup.warm or engine == EXEC:
            found[name] = 'version = 1\nbase = "default"\n' + (keys if setup.warm else "")
    return found


def measure(setup: Setup) -> list[Row]:
    """The rows."""
    rows = []
    with (
        setup.daemon(profiles(setup, SPARE, ZYGOTE, EXEC)) as daemon,
        warm_python(setup) as warm_floor,
    ):
        if setup.warm:
            _bring_up(daemon)
        rows.append(_row(setup, daemon, "new notebook → first pandas result", "pandas", warm_floor))
        rows.append(_row(setup, daemon, "new notebook → first result, 1+1", "1+1", None))
    first = rows[0]
    first.must(SPARE, "p50", 4)
    first.must(ZYGOTE, "p50", 10)
    for engine in (SPARE, ZYGOTE):
        first.must_be_times_better(engine, 100)
        first.must_be_steady(engine, 3)
    return rows


def _bring_up(daemon: Daemon) -> None:
    """A profile is warmed when it is first used."""
    for engine in (SPARE, ZYGOTE):
        name, _ = PROFILES[engine]
        notebook = daemon.client.open(f"first-{name}", name)
        run_in_cellblock(notebook, "1+1", "2")
        notebook.delete()
        daemon.settle(name)


def _row(setup: Setup, daemon: Daemon, name: str, code: str, warm_floor: Callable[[], float] | None) -> Row:
    statement, expression = EXPRESSIONS[code]
    cell = f"{statement}\n{expression}"
    # Flushed: the interpreter's end is not part of it.
    script = f"{statement}\nprint({expression}, flush=True)"
    row = Row("start", name)
    turns: list[Turn] = []
    for engine in PROFILES:
        if engine == EXEC or setup.warm:
            # What takes milliseconds can have more runs than what takes seconds.
            turns.append(
                Turn(engine, "cellblock", _cellblock(daemon, engine, cell), 1 if engine == EXEC else 6)
            )
        else:
            row.absent[engine] = NO_WARM_START
    turns.append(Turn(JUPYTER, "peer", lambda: _jupyter(cell)))
    if setup.bwrap is None:
        row.absent[BWRAP] = "no bwrap on PATH (Debian: bubblewrap)"
    else:
        inside = [*setup.bwrap, str(setup.python), "-c", script]
        turns.append(Turn(BWRAP, "peer", lambda: _first_line(inside)))
    if setup.floor is None:
        row.absent[FLOOR] = "it is not beside cellblockd: `cargo build --release -p cellblock-bench-floor`"
    else:
        floor, python = setup.floor, setup.python
        turns.append(Turn(FLOOR, "floor", lambda: _floor(floor, python, script)))
    if warm_floor is not None:
        turns.append(Turn(WARM_FLOOR, "floor", warm_floor, 6))
    return take_turns(row, turns, setup.rounds(20, 3))


def _cellblock(daemon: Daemon, engine: str, code: str) -> Callable[[], float]:
    profile, _ = PROFILES[engine]

    def run() -> float:
        """A notebook that cellblockd has never heard of; there are as many spares as are to be."""
        daemon.settle()
        name = f"new-{next(_NUMBERS)}"
        began = time.perf_counter()
        notebook = daemon.client.open(name, profile)
        run_in_cellblock(notebook, code, RESULT)
        milliseconds = 1e3 * (time.perf_counter() - began)
        notebook.delete()
        return milliseconds

    return run


def _jupyter(code: str) -> float:
    began = time.perf_counter()
    manager, client = start_kernel()
    try:
        run_in_kernel(client, code, RESULT)
        return 1e3 * (time.perf_counter() - began)
    finally:
        end_kernel(manager, client)


def _first_line(command: list[str]) -> float:
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        milliseconds = 1e3 * (time.perf_counter() - began)
        process.kill()
    if line.strip() != RESULT:
        raise BenchError(f"`{command[0]}` answered {line!r}")
    return milliseconds


def _floor(floor: Path, python: Path, script: str) -> float:
    told = subprocess.run([floor, RESULT, python, "-c", script], capture_output=True, text=True, check=False)
    if told.returncode != 0:
        raise BenchError(f"the floor: {told.stderr.strip()}")
    return int(told.stdout) / 1e6


@contextlib.contextmanager
def warm_python(setup: Setup) -> Iterator[Callable[[], float]]:
    """bare_fork.py, and what asks it for one run."""
    modules, expression = "pandas", EXPRESSIONS["pandas"][1].replace("pd.", "__import__('pandas').")
    command: list[str | Path] = [
        setup.python,
        Path(__file__).parent.parent / "bare_fork.py",
        modules,
        expression,
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        if stdout.readline() != "ready\n":
            raise BenchError("the warm Python did not start")

        def run() -> float:
            stdin.write("\n")
            nanoseconds, _, result = stdout.readline().strip().partition(" ")
            if result != RESULT:
                raise BenchError(f"the warm Python answered {result!r}")
            return int(nanoseconds) / 1e6

        yield run
        stdin.close()


_NUMBERS = itertools.count(1)
