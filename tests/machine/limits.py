#!/usr/bin/env python3
"""Limits on a machine whose cgroups this project's own tests do not have, e.g. v2 with controllers.

    limits.py --bin-dir DIR [--python PATH] [--user NAME] [--no-delegate]

Needs systemd. Starts a cellblockd of its own in a transient unit with Delegate=yes (with --user as that
user, with --no-delegate in a unit like any other), runs each limit into its end, and prints a
line for each: the outcome, the peak, and what the kernel's own files say. Exits with 1 when one of them is
not as it must be. `clients/python/src` must be on PYTHONPATH.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Protocol

from unit import Unit, arguments, connect

import cellblock

MEMORY = 200_000_000
PROCESSES = 32
CPU_MS = 1_000
PROFILES = {
    "small": f"""version = 1
[limits]
memory_bytes = {MEMORY}
processes = {PROCESSES}
""",
    # Apart: an emulated machine needs seconds for what is to meet another limit.
    "short": f"""version = 1
[limits]
cpu_ms = {CPU_MS}
""",
}

HOARD = "hoard = []\nwhile True: hoard.append(b'x' * 4_000_000)"
MEMFD = "import os\nfd = os.memfd_create('a')\nwhile True: os.write(fd, bytes(4_000_000))"
# It names what it holds, so that nothing is given back before all of it is there.
CHILD_CODE = "x = [bytearray(4_000_000) for _ in range(99)]"
CHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {CHILD_CODE!r}], check=True)"
FORKS = (
    "import os, time\nchildren = []\nfor _ in range(100):\n    pid = os.fork()\n"
    "    if pid == 0:\n        time.sleep(600)\n        os._exit(0)\n    children.append(pid)"
)
TIDY = "for pid in children:\n    os.kill(pid, 9)\n    os.waitpid(pid, 0)"
SPIN = "while True: pass"
SPREAD = "import os\nfor _ in range(3):\n    if os.fork() == 0:\n        while True: pass\nos.wait()"


class Groups(Protocol):
    """Who knows where sandboxes have their cgroups."""

    def groups(self, notebook: str) -> list[Path]:
        """Those of a notebook's sandbox."""


def main() -> int:
    options = arguments(__doc__ or "").parse_args()
    unit = Unit(options.bin_dir, options.python, options.user, not options.no_delegate, PROFILES)
    try:
        with connect(unit.socket) as client:
            return check(client, unit)
    finally:
        unit.stop()


def check(client: cellblock.Client, unit: Groups) -> int:
    wrong = 0

    def tell(name: str, passed: bool, detail: str) -> None:
        nonlocal wrong
        wrong += not passed
        print(f"{'ok    ' if passed else 'FAILED'} {name}: {detail}", flush=True)

    lines = {line.name: line for line in client.doctor()}
    for name in ("cgroup", "memory", "processor time"):
        line = lines.get(name)
        tell(
            f"doctor, {name}",
            line is not None and line.state == "enforced",
            line.detail if line else "no line",
        )
    cases = [
        ("memory, mapped", HOARD, "memory", MEMORY),
        ("memory, a memfd", MEMFD, "memory", MEMORY),
        ("memory, a child", CHILD, "memory", MEMORY),
        ("processes", FORKS, "processes", PROCESSES),
        ("processor time", SPIN, "cpu", CPU_MS),
        ("processor time of four", SPREAD, "cpu", CPU_MS),
    ]
    for number, (name, code, limit, allowed) in enumerate(cases):
        notebook = client.open(f"n{number}", "short" if limit == "cpu" else "small")
        notebook.execute("keep = 1").result()
        folder = next(iter(unit.groups(f"n{number}")), None)
        began = time.monotonic()
        outcome = notebook.execute(code).result().outcome
        took = time.monotonic() - began
        end = outcome.end
        hit = isinstance(end, cellblock.LimitHit) and end.limit == limit and end.allowed == allowed
        # The kernel refuses what does not fit whole, here 4 MB at a time.
        near = isinstance(end, cellblock.LimitHit) and end.reached >= allowed * 0.97 - 1
        tell(name, hit and near, f"{end} after {took:.1f} s; {outcome.usage}")
        try:
            said = (False, "no group") if folder is None else kernel(folder, limit, allowed)
        except FileNotFoundError:
            # What a limit of memory ends takes its group along.
            said = limit == "memory", "they have gone"
        tell(f"{name}, the kernel's files", *said)
        if name == "processes":
            notebook.execute(TIDY).result()
        after = notebook.execute("print(6 * 7)").result()
        tell(f"{name}, the next cell", after.outcome.ok and after.stdout == "42\n", str(after.outcome.end))
    return 1 if wrong else 0


def kernel(folder: Path, limit: str, allowed: int) -> tuple[bool, str]:
    """What the sandbox's own group says; its worker is still there."""

    def events(name: str, key: str) -> int:
        found = re.search(rf"^{key} (\d+)$", (folder / name).read_text(), re.MULTILINE)
        return int(found[1]) if found else -1

    match limit:
        case "memory":
            most = int((folder / "memory.max").read_text())
            kills = events("memory.events", "oom_kill")
            return most <= allowed and kills > 0, f"memory.max {most}, oom_kill {kills}"
        case "processes":
            most, refused = int((folder / "pids.max").read_text()), events("pids.events", "max")
            return most == allowed and refused > 0, f"pids.max {most}, refused {refused}"
        case _:
            used = events("cpu.stat", "usage_usec")
            return used >= allowed * 1000, f"usage_usec {used}"


if __name__ == "__main__":
    sys.exit(main())
