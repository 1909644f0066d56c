"""Times cellblock against jupyter_client + ipykernel: `cargo xtask bench`. README.md says how and why so."""

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
from bench.figures import Row, Samples, table
from bench.host import facts, host
from bench.peers import BenchError, Cellblock, Engine, Jupyter

STARTS: Final = 30
ROUND_TRIPS: Final = 300
WARM_UPS: Final = 20
"""Round trips before any is counted: adaptive interpreter, connections, caches."""

BARE: Final = ("1+1", "2")
WITH_PANDAS: Final = ("import pandas as pd; int(pd.Series([1, 1]).sum())", "2")


def main() -> int:
    """The command."""
    arguments = _parse()
    starts = arguments.runs or (5 if arguments.quick else STARTS)
    round_trips = 10 * arguments.runs if arguments.runs else (50 if arguments.quick else ROUND_TRIPS)
    try:
        rows = _measure(arguments, starts, round_trips)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{host()}; peer: {rows[0].peer_name}")
    print(table(rows))
    if arguments.json:
        document = {"host": facts(), "rows": [row.as_json() for row in rows]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _measure(arguments: argparse.Namespace, starts: int, round_trips: int) -> list[Row]:
    with Jupyter() as peer, Cellblock(arguments.bin_dir, arguments.python) as cellblock:
        return [
            _row("worker start → first result, 1+1", peer, cellblock, starts, 1, _first_result(*BARE)),
            _row(
                "worker start → first result, import pandas",
                peer,
                cellblock,
                starts,
                1,
                _first_result(*WITH_PANDAS),
            ),
            _row("1+1 round trip", peer, cellblock, round_trips, WARM_UPS, _round_trip(*BARE)),
        ]


def _row(
    name: str, peer: Engine, cellblock: Engine, runs: int, warm_ups: int, run: Callable[[Engine], float]
) -> Row:
    """Takes the engines in turns, and the turns in turns, so that whatever the machine does hits both."""
    row = Row(name, peer.name)
    turn: list[tuple[Engine, Samples]] = [(peer, row.peer), (cellblock, row.cellblock)]
    for number in range(-warm_ups, runs):
        command.progress(name, max(0, number), runs)
        for engine, samples in turn:
            seconds = run(engine)
            if number >= 0:
                samples.seconds.append(seconds)
        turn.reverse()
    return row


def _first_result(code: str, expected: str) -> Callable[[Engine], float]:
    return lambda engine: engine.first_result(code, expected)


def _round_trip(code: str, expected: str) -> Callable[[Engine], float]:
    return lambda engine: engine.round_trip(code, expected)


def _parse() -> argparse.Namespace:
    parser = command.parser(__doc__, python="what cellblock's workers run")
    parser.add_argument(
        "--runs",
        type=command.count,
        metavar="N",
        help=f"starts of each kind; round trips are ten times as many [default: {STARTS}]",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
