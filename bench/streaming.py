"""From `print` in a cell to the text in the client's hand: cellblock, ipykernel, a bare pipe.

The cell prints what the monotonic clock says, the client looks at the same clock when the text is there.
Between prints nothing runs, so this is the latency of one line and not a throughput; the flood is the
opposite, and asks how far the client is behind when the cell has printed its last line.

The pipe is the floor: a Python of its own that prints into it, and this program that reads.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

# Started as a program, Python searches this folder and not the one above, where `bench` is.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import command
from bench.figures import Spread, spreads
from bench.host import facts, host
from bench.peers import Arrival, BenchError, Cellblock, Jupyter

ROUNDS: Final = 50
FIRST_LINES: Final = 20
"""Cells with one line each, a round; ipykernel runs a fifth of them: it holds text back for so long."""
LONE_LINES: Final = 20
UPDATES: Final = 20
"""Of one progress bar, the first one too."""
FLOODS: Final = 2
FLOOD_LINES: Final = 20_000
GOAL_SECONDS: Final = 0.005
"""Of a cell's first line, 99 of 100."""

_STAMP: Final = re.compile(r"\|(\d+)\|")
_BEGIN: Final = "import sys, time\n"
_NOW: Final = "|{time.clock_gettime_ns(time.CLOCK_MONOTONIC)}|"


class Printer(Protocol):
    """Something that runs a cell and hands over its text."""

    name: str

    def texts(self, code: str) -> list[Arrival]:
        """Both streams, as they came."""
        ...


class Pipe:
    """`python -u | …`: what the kernel and two Pythons take without anything of ours or of Jupyter's."""

    name = "bare pipe"

    def __init__(self, python: Path) -> None:
        self._python = python

    def texts(self, code: str) -> list[Arrival]:
        """Both streams, as they came."""
        run: list[str | Path] = [self._python, "-u", "-c", f"display = print\n{code}"]
        arrived: list[Arrival] = []
        with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            while piece := os.read(process.stdout.fileno(), 128 << 10):
                arrived.append(Arrival(time.monotonic_ns(), piece.decode()))
        if process.returncode:
            raise BenchError(f"Python ended {code!r} with {process.returncode}")
        return arrived


@dataclass(frozen=True, slots=True)
class Case:
    """What is printed, and what is made of its latencies."""

    names: tuple[str, ...]
    """Of the rows: one for all stamps of a cell, or one for the first and one for the others."""
    cell: Callable[[random.Random, float], str]
    cells: int
    """In a round."""
    peer_cells: int
    """On ipykernel."""
    stamps: int
    """In a cell."""


def main() -> int:
    """The command."""
    arguments = _parse()
    try:
        rows = _measure(arguments)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(host())
    print(spreads(rows, "cellblock"))
    p99 = rows[0].engines["cellblock"].p99
    word = "met" if p99 <= GOAL_SECONDS else "MISSED"
    print(f"goal: {rows[0].name}, p99 at most {1e3 * GOAL_SECONDS:.0f} ms: {word} with {1e3 * p99:.2f} ms")
    if arguments.json:
        document = {"host": facts(), "rows": [row.as_json() for row in rows]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _measure(arguments: argparse.Namespace) -> list[Spread]:
    # The first of several rounds warms up and is not counted.
    first, rounds = (0, 1) if arguments.quick else (-1, arguments.rounds)
    pipe = Pipe(arguments.python)
    with Jupyter() as peer, Cellblock(arguments.bin_dir, arguments.python) as cellblock:
        turn: list[Printer] = [cellblock, peer, pipe]
        rows = {
            name: Spread.of(name, *(printer.name for printer in turn))
            for case in CASES
            for name in case.names
        }
        for printer in turn:
            _expect_our_clock(printer)
        # Every round's cells differ, and every engine gets the same ones.
        for number in range(first, rounds):
            command.progress("round", number, rounds)
            for case in CASES:
                for printer in turn:
                    for name, seconds in _run(case, printer, random.Random(number)):
                        if number >= 0:
                            rows[name].engines[printer.name].seconds.append(seconds)
            turn.reverse()
    return list(rows.values())


def _run(case: Case, printer: Printer, rng: random.Random) -> Iterator[tuple[str, float]]:
    """The latencies of a round's cells, each with the name of its row."""
    # The tail is long enough that it is not the cell's end that pushes the text out.
    cells, tail = (case.peer_cells, 0.25) if isinstance(printer, Jupyter) else (case.cells, 0.05)
    for _ in range(cells):
        found = list(latencies(printer.texts(_BEGIN + case.cell(rng, tail))))
        if len(found) != case.stamps:
            raise BenchError(f"{printer.name}: {len(found)} of {case.stamps} stamps came of {case.names[0]}")
        for place, seconds in enumerate(found):
            yield case.names[min(place, len(case.names) - 1)], seconds


def latencies(arrivals: Iterable[Arrival]) -> Iterator[float]:
    """Seconds from each stamp to the piece of text that completes it."""
    text = ""
    for arrival in arrivals:
        text += arrival.text
        end = 0
        for match in _STAMP.finditer(text):
            yield (arrival.at_ns - int(match[1])) / 1e9
            end = match.end()
        # What is left may be the beginning of a stamp, which is never so long.
        text = text[max(end, len(text) - 40) :]


def _one_line(rng: random.Random, tail: float) -> str:
    return f'time.sleep({rng.uniform(0.005, 0.025)})\nprint(f"{_NOW}")\ntime.sleep({tail})\n'


def _now_and_then(rng: random.Random, tail: float, statement: str) -> str:
    pauses = [rng.uniform(0.02, 0.06) for _ in range(LONE_LINES)]
    return f"for pause in {pauses}:\n    time.sleep(pause)\n    {statement}\ntime.sleep({tail})\n"


def _lone_lines(rng: random.Random, tail: float) -> str:
    return _now_and_then(rng, tail, f'print(f"{_NOW}")')


def _flushed_lines(rng: random.Random, tail: float) -> str:
    return _now_and_then(rng, tail, f'print(f"{_NOW}", flush=True)')


def _displays(rng: random.Random, tail: float) -> str:
    return _now_and_then(rng, tail, f'display(f"{_NOW}")')


def _progress_bar(rng: random.Random, tail: float) -> str:
    """As tqdm writes it."""
    pauses = [rng.uniform(0.02, 0.06) for _ in range(UPDATES)]
    write = f'sys.stderr.write(f"\\r{{done:3}}/{UPDATES} {_NOW}")'
    return (
        f"for done, pause in enumerate({pauses}):\n    time.sleep(pause)\n    {write}\n"
        f"    sys.stderr.flush()\ntime.sleep({tail})\n"
    )


def _flood(_rng: random.Random, tail: float) -> str:
    return (
        f'for number in range({FLOOD_LINES}):\n    print(number, "." * 60)\n'
        f'print(f"{_NOW}")\ntime.sleep({tail})\n'
    )


CASES: Final = (
    Case(("first line of a cell",), _one_line, FIRST_LINES, FIRST_LINES // 5, 1),
    Case(("a line now and then",), _lone_lines, 1, 1, LONE_LINES),
    Case(("the same, flush=True",), _flushed_lines, 1, 1, LONE_LINES),
    Case(("a display now and then",), _displays, 1, 1, LONE_LINES),
    Case(("progress bar, first update", "progress bar, next updates"), _progress_bar, 1, 1, UPDATES),
    Case((f"last of {FLOOD_LINES:,} lines",), _flood, FLOODS, FLOODS, 1),
)


def _expect_our_clock(printer: Printer) -> None:
    """In a time namespace of its own a cell would see another monotonic clock."""
    told = "".join(
        arrival.text for arrival in printer.texts("import os\nprint(os.readlink('/proc/self/ns/time'))")
    )
    ours = str(Path("/proc/self/ns/time").readlink())
    if told.strip() != ours:
        raise BenchError(f"{printer.name} has another clock: {told.strip()} instead of {ours}")


def _parse() -> argparse.Namespace:
    parser = command.parser(
        __doc__,
        python="what the workers run, and the bare pipe",
        quick="one round, cold: does it work at all?",
    )
    parser.add_argument(
        "--rounds",
        type=command.count,
        default=ROUNDS,
        metavar="N",
        help=f"of {FIRST_LINES} first lines and {LONE_LINES} others each [default: {ROUNDS}]",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
