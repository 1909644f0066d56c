"""What an editor asks after each cell and each key: variables, completion, inspection.

The namespace holds 500 variables of the usual kinds, and one of them changes before each question, so that
no answer can be an earlier one. ipykernel has no request for variables; beside ours stands `%whos`, which
says as much (name, type, size or value) and is what people call there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

# Started as a program, Python searches this folder and not the one above, where `bench` is.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import command
from bench.figures import Spread, spreads
from bench.host import facts, host
from bench.peers import BenchError, Cellblock, Engine, Jupyter

RUNS: Final = 200
WARM_UPS: Final = 5
"""Of each question; the first completion imports jedi and reads the sources of pandas."""
GOAL_SECONDS: Final = 0.005
"""Of the variables, the median."""

# Imported names are variables too: two modules are among the 500.
_SETUP: Final = """\
import numpy as np
import pandas as pd
for _n in range(198):
    globals()[f"number_{_n}"] = _n ** 3
for _n in range(100):
    globals()[f"text_{_n}"] = "word " * _n
for _n in range(100):
    globals()[f"array_{_n}"] = np.arange(1000.0 * (_n + 1)).reshape(-1, 10)
for _n in range(99):
    globals()[f"frame_{_n}"] = pd.DataFrame(np.ones((100 * (_n + 1), 8)), columns=list("abcdefgh"))
def changed_last(value: int = 0) -> int:
    "Adds one to what it is given."
    return value + 1
del _n
"""
_VARIABLES: Final = 500
_CHANGE: Final = "number_{place} += 1"

QUESTIONS: Final[dict[str, Callable[[Engine], float]]] = {
    f"variables(), {_VARIABLES} of them": lambda engine: engine.variables(_VARIABLES),
    "complete a name": lambda engine: engine.complete("array_9", "array_99"),
    "complete an attribute of a frame": lambda engine: engine.complete("frame_0.drop_d", "drop_duplicates"),
    "complete a module's name": lambda engine: engine.complete("np.linalg.ei", "eigh"),
    "inspect a frame's method": lambda engine: engine.inspect("frame_0.groupby", "Group DataFrame"),
    "inspect a function of the cell's": lambda engine: engine.inspect("changed_last", "Adds one to what"),
}


def main() -> int:
    """The command."""
    arguments = _parse()
    try:
        rows = _measure(arguments, arguments.runs or (5 if arguments.quick else RUNS))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(host())
    print(spreads(rows, "cellblock"))
    median = rows[0].engines["cellblock"].median
    word = "met" if median < GOAL_SECONDS else "MISSED"
    print(f"goal: {rows[0].name}, below {1e3 * GOAL_SECONDS:.0f} ms: {word} with {1e3 * median:.2f} ms")
    if arguments.json:
        document = {"host": facts(), "rows": [row.as_json() for row in rows]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _measure(arguments: argparse.Namespace, runs: int) -> list[Spread]:
    with Jupyter() as peer, Cellblock(arguments.bin_dir, arguments.python) as cellblock:
        turn: list[Engine] = [cellblock, peer]
        rows = []
        for engine in turn:
            engine.texts(_SETUP)
        for name, ask in QUESTIONS.items():
            row = Spread.of(name, cellblock.name, peer.name)
            for number in range(-WARM_UPS, runs):
                for engine in turn:
                    engine.texts(_CHANGE.format(place=number % 198))
                    seconds = ask(engine)
                    if number >= 0:
                        row.engines[engine.name].seconds.append(seconds)
                turn.reverse()
            rows.append(row)
    return rows


def _parse() -> argparse.Namespace:
    parser = command.parser(__doc__, python="what cellblock's workers run")
    parser.add_argument("--runs", type=command.count, metavar="N", help=f"of each question [default: {RUNS}]")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
