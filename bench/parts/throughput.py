"""How fast text goes from `print` to the client: beside `python script | cat`, and ipykernel.

The cell first prints what CLOCK_MONOTONIC says, so that no interpreter's start counts; the end is when the
client has the last byte.
"""

from __future__ import annotations

import os
import subprocess
import time
from functools import partial
from typing import Final

import cellblock
from bench.peers import BenchError, Jupyter
from bench.rows import CELLBLOCK, JUPYTER, Row, Turn, take_turns
from bench.setup import Setup

PIPE: Final = "python script | cat"
_BEGIN: Final = "import sys, time\nprint(time.clock_gettime_ns(time.CLOCK_MONOTONIC))\n"
_KINDS: Final = {
    "lines of 10 bytes": (10, 'for _ in range({count}):\n    print("012345678")\n'),
    "lines of 80 bytes": (80, 'line = "." * 79\nfor _ in range({count}):\n    print(line)\n'),
    "blocks of 64 KiB": (
        1 << 16,
        'block = "." * 65535 + "\\n"\nfor _ in range({count}):\n    sys.stdout.write(block)\n',
    ),
}
"""By name: the bytes of one write, and the cell."""
_MEGABYTES: Final = {"lines of 10 bytes": 10, "lines of 80 bytes": 60, "blocks of 64 KiB": 200}
"""What takes about half a second; the profile's cap is 256 MiB."""


class Meter:
    """Counts what comes, and knows when the first line said that it began."""

    def __init__(self) -> None:
        self.received = 0
        self._head = b""
        self._last_ns = 0

    def take(self, data: bytes) -> None:
        """A piece of text, just come."""
        self._last_ns = time.monotonic_ns()
        if b"\n" not in self._head:
            self._head += data[:100]
        self.received += len(data)

    def megabytes_per_second(self, engine: str, printed: int) -> float:
        """Of all that was printed after the first line, which must all have come."""
        stamp, _, _ = self._head.partition(b"\n")
        if self.received != printed + len(stamp) + 1:
            raise BenchError(f"{engine} gave {self.received - len(stamp) - 1} of {printed} bytes")
        return printed / 1e6 / ((self._last_ns - int(stamp)) / 1e9)


def measure(setup: Setup) -> list[Row]:
    """The rows, one for each way to print."""
    rows = []
    with setup.daemon() as daemon, Jupyter() as jupyter:
        notebook = daemon.client.open("flood")
        for name, (size, text) in _KINDS.items():
            count = _MEGABYTES[name] * 1_000_000 // size // (5 if setup.quick else 1)
            code, printed = _BEGIN + text.format(count=count), count * size
            # ipykernel is some twenty times slower, so that a tenth takes longer than all of it elsewhere.
            tenth, tenth_printed = _BEGIN + text.format(count=count // 10), count // 10 * size
            row = Row("throughput", f"stdout, {name}", "MB/s", more_is_better=True)
            turns = [
                Turn(CELLBLOCK, "cellblock", partial(_cellblock, notebook, code, printed)),
                Turn(PIPE, "peer", partial(_pipe, setup, code, printed)),
                Turn(JUPYTER, "peer", partial(_jupyter, jupyter, tenth, tenth_printed)),
            ]
            rows.append(take_turns(row, turns, setup.rounds(15, 3)))
            row.must_be_times_better(CELLBLOCK, 0.7)
    return rows


def _cellblock(notebook: cellblock.Notebook, code: str, printed: int) -> float:
    meter = Meter()
    execution = notebook.execute(code)
    for output in execution:
        if isinstance(output, cellblock.Stream):
            meter.take(output.data)
    return meter.megabytes_per_second(CELLBLOCK, printed)


def _pipe(setup: Setup, code: str, printed: int) -> float:
    meter = Meter()
    with (
        subprocess.Popen([setup.python, "-c", code], stdout=subprocess.PIPE) as python,
        subprocess.Popen(["cat"], stdin=python.stdout, stdout=subprocess.PIPE) as cat,
    ):
        assert python.stdout is not None
        assert cat.stdout is not None
        python.stdout.close()
        while piece := os.read(cat.stdout.fileno(), 128 << 10):
            meter.take(piece)
    return meter.megabytes_per_second(PIPE, printed)


def _jupyter(jupyter: Jupyter, code: str, printed: int) -> float:
    meter = Meter()
    for text in jupyter.stream(code):
        meter.take(text.encode())
    return meter.megabytes_per_second(JUPYTER, printed)
