"""Measures cellblock beside its peers and floors: `cargo xtask bench`. README.md says how and why so."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

# Started as a program, Python searches this folder and not the one above, where `bench` is.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cellblock
from bench import checkpoint_table, command, plots
from bench.host import facts, host
from bench.parts import PARTS, Found, growth
from bench.peers import BenchError
from bench.rows import absences, table
from bench.setup import Setup

FORMAT: Final = 2
"""Of the JSON document."""


def main() -> int:
    """The command."""
    arguments = _parse()
    # Peers and floors start as a user's do: an unbuffered stdout, for one, would make them slow.
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    setup = Setup(
        bin_dir=arguments.bin_dir,
        python=arguments.python,
        quick=arguments.quick,
        runs=arguments.runs,
        crowd=arguments.crowd,
        cgroup=arguments.cgroup,
    )
    found, machine, seconds = Found(), facts(), {}
    print(host())
    for name in arguments.only or PARTS:
        began = time.monotonic()
        try:
            PARTS[name](setup, found)
        except (BenchError, cellblock.CellblockError) as error:
            # The other parts are worth having all the same.
            found.failed[name] = str(error)
            print(f"error: {name}: {error}", file=sys.stderr)
        seconds[name] = round(time.monotonic() - began, 1)
        print(f"{name}: {seconds[name]:.0f} s", file=sys.stderr)
    print(report(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(document(found, machine, seconds), indent=1) + "\n")
    if arguments.plots:
        written = plots.write(arguments.plots, found.rows, found.levels)
        print(f"{len(written)} charts in {arguments.plots}", file=sys.stderr)
    return 1 if found.failed else 0


def report(found: Found) -> str:
    """For people: the table, growth, what is missing, and the goals."""
    goals = [goal for row in found.rows for goal in row.goals]
    sections = [
        table(found.rows) if any(row.cell is None for row in found.rows) else "",
        checkpoint_table.table(found.rows),
        growth.table(found.levels) if found.levels else "",
        "\n".join([f"failed: {name}: {why}" for name, why in found.failed.items()] + absences(found.rows)),
        "\n".join(f"goal {goal}" for goal in goals),
    ]
    return "\n\n".join(section for section in sections if section)


def document(found: Found, machine: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    """For machines: everything, the single runs too."""
    return {
        "format": FORMAT,
        "host": machine,
        "seconds": seconds,
        "failed": found.failed,
        "rows": [row.as_json() for row in found.rows],
        "growth": [level.as_json() for level in found.levels],
    }


def _parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command.parser(
        __doc__,
        python="what workers, floors and bwrap run",
        quick="few runs and small crowds, under 2 minutes",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=PARTS,
        metavar="PART",
        help=f"may be repeated; one of {', '.join(PARTS)} [default: all]",
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write charts (SVG) there")
    parser.add_argument(
        "--runs", type=command.count, metavar="N", help="rounds of every part, instead of its own number"
    )
    parser.add_argument(
        "--crowd",
        type=command.count,
        default=200,
        metavar="N",
        help="no more notebooks at once, for machines with little memory [default: %(default)s]",
    )
    parser.add_argument("--cgroup", default="auto", metavar="WHERE", help="as cellblockd's [default: auto]")
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
