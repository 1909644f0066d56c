"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parser(
    about: str | None, *, python: str, quick: str = "few runs: does it work at all?"
) -> argparse.ArgumentParser:
    """The options that all of them take; `python` says what that interpreter is for."""
    options = argparse.ArgumentParser(description=about)
    options.add_argument("--bin-dir", type=Path, required=True, help="where cellblockd is")
    options.add_argument("--python", type=Path, required=True, help=python)
    options.add_argument("--quick", action="store_true", help=quick)
    options.add_argument("--json", type=Path, metavar="FILE", help="write everything there, every run too")
    return options


def count(text: str) -> int:
    """The type of an option that is a number of runs."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def progress(name: str, number: int, runs: int) -> None:
    """One line for the person who waits, written over at the end."""
    if sys.stderr.isatty():
        end = "\r" if number + 1 < runs else "\x1b[2K\r"
        print(f"{name}: {number + 1}/{runs}", file=sys.stderr, end=end, flush=True)
