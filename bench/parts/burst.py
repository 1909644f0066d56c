"""A hundred notebooks asked for in the same moment, each to its first pandas result."""

from __future__ import annotations

from typing import Final

from bench import command
from bench.crowd import Kernels, open_in_cellblock, too_little_memory
from bench.parts.start import EXPRESSIONS, RESULT
from bench.rows import CELLBLOCK, JUPYTER, Role, Row
from bench.setup import Setup

LIVE: Final = 100
CODE: Final = "\n".join(EXPRESSIONS["pandas"])
_KERNEL_BYTES: Final = 90e6
_ROUNDS: Final = 5
"""Of cellblock's, with zygotes; a round of fresh interpreters takes as long as the kernels'."""


def measure(setup: Setup) -> list[Row]:
    """The rows: each notebook's, and until all are there."""
    live = min(setup.crowd, 10 if setup.quick else LIVE)
    each = Row("burst", f"{live} notebooks at once → first pandas result of each")
    last = Row("burst", f"{live} notebooks at once → first pandas result of all")
    rounds = setup.rounds(_ROUNDS, 2) if setup.warm else 1
    problem = too_little_memory(live, _KERNEL_BYTES)
    with setup.daemon() as daemon, Kernels() as kernels:
        for number in range(rounds):
            command.progress(each.name, number, rounds)
            daemon.settle()
            names = [f"burst-{number}-{place}" for place in range(live)]
            ours = open_in_cellblock(daemon.supervisor.socket_path, None, names, CODE, RESULT, live)
            _take(each, last, CELLBLOCK, ours)
            for name in names:
                daemon.client.open(name).delete()
            # Once, in the middle: it takes a minute.
            if number == rounds // 2 and problem is None:
                _take(each, last, JUPYTER, kernels.grow(live, CODE, RESULT, live))
                kernels.end()
    if problem is not None:
        each.absent[JUPYTER] = last.absent[JUPYTER] = problem
    return [each, last]


def _take(each: Row, last: Row, engine: str, seconds: list[float]) -> None:
    role: Role = "cellblock" if engine == CELLBLOCK else "peer"
    each.values(engine, role).extend(1e3 * second for second in seconds)
    last.values(engine, role).append(1e3 * max(seconds))
