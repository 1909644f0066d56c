"""SIGKILL of cellblockd with many live notebooks: how soon the next one has them all back, and what is lost.

    python -m tests.chaos.restart --notebooks 200 --running 20 --rounds 10

Each notebook has a live worker with a variable; some run a cell that prints numbered lines all the time, read
by a client each. In each round cellblockd gets SIGKILL and is started again. Times are from the start of its
program: until it says that it is ready, and until each notebook has answered that it is idle or busy.

At the end the cells are told to end: each has its Outcome, and all of its lines have come. Exit code 0:
nothing was lost; 1: something was. How fast it is does not decide.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.faults.daemon import BOUND_SECONDS, Daemon, running
from tests.faults.threads import together

from cellblock import CellblockError, Client, Notebook, UnknownNotebook

from . import report

_PROFILES: Final = {"many": "version = 1\nwarm_start = 'zygote'\n[checkpoints]\nwhen = 'none'\n"}
_CELL: Final = """\
import os, time
at = 0
while not os.path.exists('stop'):
    print(at)
    at += 1
    time.sleep(0.01)
"""
_ASKERS: Final = 4


@dataclass
class Found:
    """What was measured and what was lost."""

    ready: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    lines: int = 0
    outcomes_lost: int = 0
    lines_lost: int = 0
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    """Runs what the command line says."""
    parser = report.arguments(__doc__)
    parser.add_argument("--notebooks", type=int, default=200)
    parser.add_argument("--running", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    found = Found()
    more = ("--max-running", str(options.running + 8))
    daemon = Daemon(options.bin_dir, options.python, profiles=_PROFILES, options=more)
    with running(daemon, found.wrong):
        _restarts(daemon, options.notebooks, options.running, options.rounds, found)
    tables: dict[str, report.Table] = {
        "restart": {
            "live notebooks": options.notebooks,
            "running cells": options.running,
            "rounds": options.rounds,
        },
        "milliseconds from the start of the program": {
            f"{what}, {name}": report.milliseconds(value)
            for what, values in (("ready", found.ready), ("all back", found.back))
            for name, value in (
                ("median", report.percentile(values, 0.5)),
                ("most", max(values, default=None)),
            )
        },
        "lost": {
            "Outcomes": found.outcomes_lost,
            "lines": found.lines_lost,
            "of lines": found.lines,
        },
        "verdict": {"wrong": len(found.wrong)},
    }
    report.show(tables, options.json)
    print("\n".join(found.wrong), file=sys.stderr)
    return 1 if found.wrong else 0


def _restarts(daemon: Daemon, notebooks: int, busy: int, rounds: int, found: Found) -> None:
    names = [f"many{number}" for number in range(notebooks)]
    with daemon.client() as client:
        for number, name in enumerate(names):
            client.open(name, "many").execute(f"mine = {number}", timeout=BOUND_SECONDS).wait()
        readers = [threading.Thread(target=_read, args=(client, name, found)) for name in names[:busy]]
        for reader in readers:
            reader.start()
        for name in names[:busy]:
            _until_busy(Notebook(client, name, "many"))
        for _ in range(rounds):
            time.sleep(0.5)
            daemon.kill()
            began = time.monotonic()
            daemon.start()
            found.ready.append(time.monotonic() - began)
            _all_back(daemon, names, busy, found)
            found.back.append(time.monotonic() - began)
        for name in names[:busy]:
            Notebook(client, name, "many").files.write("stop", b"")
        for reader in readers:
            reader.join(BOUND_SECONDS)
        for number, name in enumerate(names):
            notebook = Notebook(client, name, "many")
            try:
                if (mine := notebook.get("mine", timeout=BOUND_SECONDS)) != number:
                    found.wrong.append(f"{name}: its variable is {mine}")
                notebook.delete()
            except CellblockError as error:
                found.wrong.append(f"{name}: {error!r}")


def _until_busy(notebook: Notebook) -> None:
    until = time.monotonic() + BOUND_SECONDS
    while notebook.status().running is None and time.monotonic() < until:
        time.sleep(0.01)


def _all_back(daemon: Daemon, names: list[str], busy: int, found: Found) -> None:
    """Asks for each of them, a few at once."""
    together(
        [partial(_ask, daemon, names[part::_ASKERS], set(names[:busy]), found) for part in range(_ASKERS)]
    )


def _ask(daemon: Daemon, names: list[str], busy: set[str], found: Found) -> None:
    with daemon.client() as client:
        for name in names:
            try:
                status = Notebook(client, name, "many").status()
            except UnknownNotebook as error:
                found.wrong.append(f"{name} is not back: {error}")
                continue
            wanted = "busy" if name in busy else "idle"
            if status.info.state != wanted:
                found.wrong.append(f"{name} is {status.info.state}, and was {wanted}")


def _read(client: Client, name: str, found: Found) -> None:
    execution = Notebook(client, name, "many").execute(_CELL, reconnect_seconds=BOUND_SECONDS)
    try:
        completed = execution.result()
    except CellblockError as error:
        found.outcomes_lost += 1
        found.wrong.append(f"{name}: its Outcome is lost: {error!r}")
        return
    lines = completed.stdout.splitlines()
    missing = len({*range(int(lines[-1]) + 1)} - {int(line) for line in lines})
    found.lines += int(lines[-1]) + 1
    found.lines_lost += missing
    if missing or not completed.outcome.ok or lines != [str(at) for at in range(len(lines))]:
        found.wrong.append(f"{name}: {completed.outcome.end}, {missing} of {len(lines)} lines are lost")


if __name__ == "__main__":
    sys.exit(main())
