"""What a cell costs in the drop-in `cellblock.ExecutionService`, beside the service it replaces.

The old service is not here to be run: its medians, taken on the same kind of machine, stand in the table by
its name. Measured in this run are the drop-in, the general API (`Notebook.execute`, read to its end) and,
as the floor, `exec` of the same cell in this process with nothing but the conversion of what it shows.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

# Started as a program, Python searches this folder and not the one above, where `bench` is.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cellblock
from bench import command
from bench.figures import Samples, aligned, milliseconds
from bench.host import facts, host
from bench.peers import BenchError
from bench.relay import Relay

RUNS: Final = 100
WARM_UPS: Final = 5
COUNTED_RUNS: Final = 3
"""Of which the wire's bytes are counted."""
GOAL_SECONDS: Final = 0.050
GOAL_BYTES: Final = 300_000
GOAL_TIMES: Final = 100
"""How many times as fast as the old service a large table has to be."""

_SETUP: Final = """\
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plotly.graph_objects as go
"""
_FIGURE: Final = """\
plt.figure()
plt.plot([1, 2, 3, 4], [1, 4, 9, 16])
plt.title("Squares")
plt.show()
"""
_PLOTLY: Final = """\
figure = go.Figure(go.Scatter(x=[1, 2, 3, 4], y=[1, 4, 9, 16]))
display(figure)
"""
_FRAME: Final = """\
frame_{{number}} = pd.DataFrame(np.random.default_rng({{number}}).random(({rows}, 8)), columns=[*"abcdefgh"])
"""

Result = cellblock.ExecutionResult


@dataclass(frozen=True, slots=True)
class Cell:
    """A kind of cell, and what must come of it."""

    name: str
    code: str
    """`{number}` differs from run to run."""
    old_seconds: float
    """The old service's median, without saving the variables."""
    is_right: Callable[[Result], bool]
    """Whether the drop-in's result has what the old service's had."""
    after: str = ""
    """Run untimed, so that memory does not fill."""


@dataclass(slots=True)
class Row:
    """A cell on all engines."""

    cell: Cell
    engines: dict[str, Samples]
    wire_bytes: list[int] = field(default_factory=list)
    """Between the drop-in and cellblockd, both directions."""

    @property
    def times(self) -> float:
        """How many times as fast as the old service's median the drop-in's is."""
        return self.cell.old_seconds / self.engines[Service.name].median

    def as_json(self) -> dict[str, Any]:
        """Everything, the single runs too."""
        return {
            "name": self.cell.name,
            "old_service_ms": 1e3 * self.cell.old_seconds,
            "times_as_fast": self.times,
            "wire_bytes": self.wire_bytes,
            **{name: samples.as_json() for name, samples in self.engines.items()},
        }


class Engine(Protocol):
    """Something that runs a cell."""

    name: str

    def run(self, code: str, cell: Cell | None = None) -> float:
        """Seconds; with a cell the result is checked against what must come of it."""
        ...


class Floor:
    """`exec` in this process, and the conversion that no engine is without."""

    name = "exec"

    def __init__(self) -> None:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as pyplot

        def show() -> None:
            pyplot.savefig(io.BytesIO(), format="png", bbox_inches="tight")
            pyplot.close("all")

        pyplot.show = show  # type: ignore[assignment]
        self._names: dict[str, Any] = {"display": lambda figure: figure.to_json()}

    def run(self, code: str, cell: Cell | None = None) -> float:
        started = time.perf_counter()
        exec(compile(code, "<cell>", "exec"), self._names)
        return time.perf_counter() - started


class General:
    """`Notebook.execute`, read to its end."""

    name = "general API"

    def __init__(self, client: cellblock.Client) -> None:
        self._notebook = client.open("general")

    def run(self, code: str, cell: Cell | None = None) -> float:
        started = time.perf_counter()
        self._notebook.execute(code).result().raise_for_error()
        return time.perf_counter() - started


class Service:
    """The drop-in, as a backend calls it; nothing is saved, as in the old service's figures."""

    name = "drop-in"

    def __init__(self, server: cellblock.Client | Path, notebook: str) -> None:
        self._service = cellblock.ExecutionService(server)
        self._notebook = notebook

    def run(self, code: str, cell: Cell | None = None) -> float:
        started = time.perf_counter()
        result = self._service.execute_code(code, "cell", self._notebook, persist_state=False)
        seconds = time.perf_counter() - started
        if result.status != "success" or (cell and not cell.is_right(result)):
            raise BenchError(f"the drop-in made of {code!r}: {result.model_dump_json()[:2000]}")
        return seconds


def _frame(rows: int, old_seconds: float) -> Cell:
    def is_right(result: Result) -> bool:
        return [table["shape"] for table in result.tables] == [[rows, 8]]

    return Cell(
        f"new DataFrame, {rows:,} × 8", _FRAME.format(rows=rows), old_seconds, is_right, "del frame_{number}"
    )


CELLS: Final = (
    Cell("x = 1", "x = 1", 0.00096, lambda result: not result.tables),
    Cell("a matplotlib figure", _FIGURE, 0.073, lambda result: len(result.plots) == 1),
    Cell("a Plotly figure", _PLOTLY, 0.0108, lambda result: len(result.interactive_plots) == 1),
    _frame(100, 0.014),
    _frame(10_000, 0.939),
    _frame(100_000, 12.034),
)


def main() -> int:
    """The command."""
    arguments = _parse()
    try:
        rows = _measure(arguments, arguments.runs or (5 if arguments.quick else RUNS))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(host())
    print(table(rows))
    print("\n".join(f"goal: {text}: {'met' if met else 'MISSED'}" for text, met in goals(rows)))
    if arguments.json:
        document = {"host": facts(), "rows": [row.as_json() for row in rows]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def table(rows: list[Row]) -> str:
    """Times in milliseconds; `× old` is how many times as fast as the old service the drop-in is."""
    names = [Floor.name, General.name, Service.name]
    heading = [text for name in names for text in (f"{name} p50", "p90")]
    lines: list[tuple[str, ...]] = [("milliseconds", "runs", "old service", *heading, "× old", "wire bytes")]
    for row in rows:
        times = [text for name in names for text in _times(row.engines[name])]
        runs = str(len(row.engines[Service.name].seconds))
        old = milliseconds(row.cell.old_seconds)
        lines.append((row.cell.name, runs, old, *times, f"{row.times:.1f}", f"{max(row.wire_bytes):,}"))
    return aligned(lines)


def goals(rows: list[Row]) -> list[tuple[str, bool]]:
    """What the drop-in has to reach, and whether it does."""
    slower = [row.cell.name for row in rows if row.times < 1]
    largest, large = rows[-1], rows[-2:]
    times = " and ".join(f"{row.times:.0f}" for row in large)
    milliseconds_ = 1e3 * largest.engines[Service.name].median
    return [
        (f"nowhere slower than the old service ({', '.join(slower) or 'nothing is'})", not slower),
        (
            f"large tables {GOAL_TIMES} × as fast ({times})",
            all(row.times >= GOAL_TIMES for row in large),
        ),
        (
            f"{largest.cell.name} below {1e3 * GOAL_SECONDS:.0f} ms ({milliseconds_:.1f} ms)",
            milliseconds_ < 1e3 * GOAL_SECONDS,
        ),
        (
            f"and {GOAL_BYTES:,} bytes ({max(largest.wire_bytes):,})",
            max(largest.wire_bytes) < GOAL_BYTES,
        ),
    ]


def _measure(arguments: argparse.Namespace, runs: int) -> list[Row]:
    with (
        cellblock.LocalSupervisor(python=arguments.python, bin_dir=arguments.bin_dir) as supervisor,
        supervisor.client(timeout=60) as client,
        Relay(supervisor.socket_path) as relay,
    ):
        turn: list[Engine] = [Floor(), General(client), Service(client, "drop-in")]
        counted = Service(relay.path, "counted")
        for engine in (*turn, counted):
            engine.run(_SETUP)
        rows = []
        for cell in CELLS:
            row = Row(cell, {engine.name: Samples() for engine in turn})
            for number in range(-WARM_UPS, runs):
                command.progress(cell.name, max(0, number), runs)
                # Python has no names with a minus sign in them.
                code, after = (text.format(number=number + WARM_UPS) for text in (cell.code, cell.after))
                for engine in turn:
                    seconds = engine.run(code, cell)
                    if number >= 0:
                        row.engines[engine.name].seconds.append(seconds)
                    engine.run(after)
                turn.reverse()
            row.wire_bytes = [_count(counted, relay, cell, number) for number in range(COUNTED_RUNS)]
            rows.append(row)
    return rows


def _count(service: Service, relay: Relay, cell: Cell, number: int) -> int:
    relay.take_count()
    service.run(cell.code.format(number=number), cell)
    count = relay.take_count()
    service.run(cell.after.format(number=number))
    return count


def _times(samples: Samples) -> tuple[str, str]:
    return milliseconds(samples.median), milliseconds(samples.p90)


def _parse() -> argparse.Namespace:
    parser = command.parser(__doc__, python="what the workers run")
    parser.add_argument("--runs", type=command.count, metavar="N", help=f"of each cell [default: {RUNS}]")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
