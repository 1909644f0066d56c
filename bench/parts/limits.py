"""How long after its wall time was over a cell has ended, for the client. No peer has such a limit."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import cellblock
from bench.peers import BenchError
from bench.rows import CELLBLOCK, Row, Turn, take_turns
from bench.setup import Setup

LIMIT_MS: Final = 100
_PROFILE: Final = f'version = 1\nbase = "default"\n[limits]\nwall_ms = {LIMIT_MS}\n'
_CELLS: Final = {"a busy loop": "while True: pass", "a sleep": "import time; time.sleep(60)"}


def measure(setup: Setup) -> list[Row]:
    """The rows."""
    rows = []
    with setup.daemon({"bench-limit": _PROFILE}) as daemon:
        notebook = daemon.client.open("limited", "bench-limit")
        for name, code in _CELLS.items():
            row = Row("limits", f"overshoot of a time limit, {name}")
            turn = Turn(CELLBLOCK, "cellblock", partial(_overshoot, notebook, code))
            rows.append(take_turns(row, [turn], setup.rounds(120, 20)))
            row.must(CELLBLOCK, "p99", 20)
    return rows


def _overshoot(notebook: cellblock.Notebook, code: str) -> float:
    """From sending the code to its Outcome, without the limit."""
    began = time.perf_counter()
    outcome = notebook.execute(code).result().outcome
    milliseconds = 1e3 * (time.perf_counter() - began)
    # An interrupt was enough: the variables are still there.
    if not isinstance(outcome.end, cellblock.TimedOut) or outcome.lost is not None:
        raise BenchError(f"{code!r} ended with {outcome}")
    return milliseconds - LIMIT_MS
