"""Breaks checkpoints on purpose, and looks whether what comes back is what must come back.

    python -m tests.faults.checkpoints --seed 1 --checkpoints 1000

A cell brings ten variables from one numbered state to the next: by assignment, in place, through an alias,
through a view. So it can be seen whether what a worker has is one whole state, and which. Kinds of faults:

- *kills*: SIGKILL of worker, init, shim, store process, snapshot and cellblockd, one or several, at random
  moments of a checkpoint's time, in six notebooks at once; a fifth of the times again while the next loads.
- *disk*: all state lies on a small disk that is filled so that later and later writes of a checkpoint fail.
- *damage*: in every kind of file of a store, and every part of it, a flipped bit, a torn write, a stretch of
  zeros, a missing file; and a checkpoint after it.

What must hold each time: within a minute there is a whole state, no older than the newest complete
checkpoint, or what is not there is told by name; and what is older than what a user had is told too. No cell
runs twice, and no worker goes that nobody killed. At the end no process, mount or file is left, and no log
tells of a panic. Two controls, a mixture and an untold older state made by hand, must be seen.

Bytes of buffers are mapped before anybody has hashed them. Where only those are damaged is counted apart, as
`unverified`, and does not decide the exit code.

Prints a summary as JSON. Exit code 0: all held; 1: something did not, and `broken first` says what. The seed
decides all that is chosen, not when things happen. As root, with `clients/python/src` on PYTHONPATH.
`CELLBLOCK_BIN_DIR` and `CELLBLOCK_TEST_PYTHON` say where the programs and the workers' Python are. CI's share
takes half a minute:

    python -m tests.faults.checkpoints --seed 1 --checkpoints 40 --disk-steps 8 --damages 1
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from . import damage, disk, kills
from .daemon import Daemon, running

_SHOWN: Final = 50
"""Of what did not hold; one fault is mostly met many times."""


def main() -> int:
    """Runs what the command line says."""
    options = _arguments()
    summary: dict[str, object] = {"seed": options.seed}
    everything_held = True
    for name, amount in (
        ("kills", options.checkpoints),
        ("disk", options.disk_steps),
        ("damage", options.damages),
    ):
        if amount == 0:
            continue
        began = time.monotonic()
        broken: list[str] = []
        size = disk.DISK_BYTES if name == "disk" else None
        with running(Daemon(options.bin_dir, options.python, size), broken) as daemon:
            found = _PARTS[name](daemon, amount, options.seed, broken)
            if options.logs is not None:
                (options.logs / f"{name}.log").write_text(daemon.log())
        summary[name] = {**found, "broken": len(broken), "broken first": broken[:_SHOWN]}
        everything_held &= not broken
        seconds = time.monotonic() - began
        print(f"{name}: {seconds:.0f} s, {len(broken)} broken", file=sys.stderr, flush=True)
    print(json.dumps(summary, indent=1))
    return 0 if everything_held else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoints", type=int, default=1000, help="checkpoints with kills [1000]")
    parser.add_argument("--disk-steps", type=int, default=60, help="amounts of free space [60]")
    parser.add_argument("--damages", type=int, default=6, help="of each act in each part of each file [6]")
    parser.add_argument("--logs", type=Path, help="folder for the logs of cellblockd")
    for option, variable in (("--bin-dir", "CELLBLOCK_BIN_DIR"), ("--python", "CELLBLOCK_TEST_PYTHON")):
        known = os.environ.get(variable)
        parser.add_argument(option, type=Path, default=known, required=known is None, help=f"[{variable}]")
    return parser.parse_args()


def _kills(daemon: Daemon, amount: int, seed: int, broken: list[str]) -> dict[str, object]:
    counts = kills.run(daemon, amount, seed)
    broken += counts.broken
    return {
        "checkpoints": counts.checkpoints,
        "killed": _sorted(counts.kills),
        "gone before": _sorted(counts.missed),
        "found": _sorted(counts.verdicts),
        "ends": _sorted(counts.outcomes),
        "slowest seconds": round(counts.slowest_seconds, 2),
    }


def _disk(daemon: Daemon, amount: int, seed: int, broken: list[str]) -> dict[str, object]:
    counts = disk.run(daemon, amount, seed)
    broken += counts.broken
    return {
        "ends": _sorted(counts.outcomes),
        "reasons": _sorted(counts.reasons),
        "found": _sorted(counts.verdicts),
    }


def _damage(daemon: Daemon, amount: int, seed: int, broken: list[str]) -> dict[str, object]:
    counts = damage.run(daemon, amount, seed)
    broken += counts.broken
    return {
        "found": _sorted(sum(counts.first.values(), start=type(counts.again)())),
        "unverified": _sorted(counts.unverified),
        "a checkpoint after it": _sorted(counts.again),
        "by kind": {kind: _sorted(found) for kind, found in sorted(counts.first.items())},
        "slowest seconds": round(counts.slowest_seconds, 2),
    }


_PARTS = {"kills": _kills, "disk": _disk, "damage": _damage}


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
