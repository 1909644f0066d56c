"""How many cells a second go through many notebooks at once, on all processors of the machine."""

from __future__ import annotations

from typing import Final

from bench.crowd import Kernels, cells_per_second_in_cellblock, open_in_cellblock
from bench.rows import CELLBLOCK, JUPYTER, Row, Turn, take_turns
from bench.setup import Setup

LIVE: Final = 50
CODE: Final = "1+1"
RESULT: Final = "2"


def measure(setup: Setup) -> list[Row]:
    """The row."""
    live = min(setup.crowd, 10 if setup.quick else LIVE)
    seconds = 1.0 if setup.quick else 3.0
    row = Row("rate", f"1+1 over {live} notebooks", "cells/s", more_is_better=True)
    with setup.daemon() as daemon, Kernels() as kernels:
        socket, names = daemon.supervisor.socket_path, [f"rate-{place}" for place in range(live)]
        open_in_cellblock(socket, None, names, CODE, RESULT)
        kernels.grow(live, CODE, RESULT)
        daemon.settle()
        turns = [
            Turn(
                CELLBLOCK,
                "cellblock",
                lambda: cells_per_second_in_cellblock(socket, names, CODE, RESULT, seconds),
            ),
            Turn(JUPYTER, "peer", lambda: kernels.cells_per_second(CODE, RESULT, seconds)),
        ]
        take_turns(row, turns, setup.rounds(6, 2))
    row.must_be_times_better(CELLBLOCK, 10)
    return [row]
