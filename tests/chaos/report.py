"""Short tables for people, and the same as JSON for programs."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

Value: TypeAlias = int | float | str | None
Table: TypeAlias = Mapping[str, Value]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What all commands take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables there too")
    for option, variable in (("--bin-dir", "CELLBLOCK_BIN_DIR"), ("--python", "CELLBLOCK_TEST_PYTHON")):
        known = os.environ.get(variable)
        parser.add_argument(option, type=Path, default=known, required=known is None, help=f"[{variable}]")
    return parser


def show(tables: Mapping[str, Table], file: Path | None) -> None:
    """Prints them, and writes them to a file if there is one."""
    for title, table in tables.items():
        if not table:
            continue
        print(f"\n{title}")
        width = max(map(len, table))
        for name, value in table.items():
            print(f"  {name:<{width}}  {_text(value):>12}")
    if file is not None:
        file.write_text(json.dumps(tables, indent=1) + "\n")


def percentile(values: Sequence[float], part: float) -> float | None:
    """The value that this part of all is not above; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def milliseconds(seconds: float | None) -> float | None:
    """Of seconds, to a hundredth."""
    return None if seconds is None else round(seconds * 1000, 2)


def _text(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
