"""A part of `installed.py`: memory runs short, and idle workers are evicted."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host import GROUP, PATIENCE, SYSTEM, Machine, figure, journal, must, readable, until
from service import override

import cellblock

# Takes memory until as little as this part of the machine's is available, and holds it. Should that be too
# much, it is the kernel's first choice.
HOG = """import sys, time
open('/proc/self/oom_score_adj', 'w').write('1000')
def look():
    lines = dict(line.split(':') for line in open('/proc/meminfo'))
    number = lambda name: int(lines[name].split()[0])
    return 100 * number('MemAvailable') / number('MemTotal')
held = []
while look() > float(sys.argv[1]): held.append(b'x' * 1_000_000)
print(look(), flush=True)
time.sleep(3600)
"""
BYTES = 150_000_000
RICH = f"x = b'x' * {BYTES}\nprint(len(x))"
STILL = "print(len(x), set(x) == {120})"
# Meets the limit of its own notebook again and again, by files that are read, without being ended.
CROWDED = """import time
held = b'x' * 140_000_000
with open('big', 'wb') as file:
    for _ in range(120): file.write(bytes(1 << 20))
until = time.monotonic() + 25
while time.monotonic() < until:
    with open('big', 'rb', buffering=0) as file:
        while file.read(1 << 20): pass
"""


def check(machine: Machine) -> None:
    with SYSTEM.client() as client:
        for info in client.notebooks():
            client.open(info.name).delete()
        rich, pinned, busy = client.open("rich"), client.open("pinned"), client.open("busy")
        pinned.execute("x = 'pinned'").result()
        pinned.pin()
        keeps = pinned.status().worker_pid
        running = busy.execute("import time\nfor n in range(6000):\n    time.sleep(0.1)")
        running.wait_accepted(PATIENCE)
        rich.execute(RICH).result()
        with hog(3.5) as left:
            evicted(machine, rich, f"the machine's memory, {left:.1f} % left")
            stays = pinned.status().worker_pid == keeps and busy.status().running is not None
            machine.tell("what is pinned or runs stays", stays)
        comes_back(machine, rich)
    # The machine that this is tried on is small, and what all take when they start is not.
    with override("Environment=CELLBLOCKD_OPTIONS=--min-available=20"), SYSTEM.client() as client:
        rich, running = client.open("rich"), client.open("busy").attach(running.id)
        kills = figure(GROUP / "memory.events", "oom_kill")
        with bound() as most:
            evicted(machine, rich, f"MemoryMax={most} of the workers' unit")
        comes_back(machine, rich)
        ended = figure(GROUP / "memory.events", "oom_kill") - kills
        machine.tell("and the kernel has ended nobody", ended == 0, ended)
    said = [line for line in journal("CELLBLOCK_NOTEBOOK=rich") if "memory is short" in line["MESSAGE"]]
    reasons = [line["CELLBLOCK_REASON"] for line in said]
    told = "machine's" in reasons[0] and "cellblock-workers.service" in reasons[-1]
    machine.tell("the log says why", told, reasons)
    with SYSTEM.client() as client:
        rich, running = client.open("rich"), client.open("busy").attach(running.id)
        running.cancel()
        running.result(PATIENCE)
        # Who waits for memory of his own is no reason to take that of others.
        client.open("crowded", "small").execute(CROWDED).result(PATIENCE)
        stalled = Path("/proc/pressure/memory").read_text().splitlines()[0]
        machine.tell("a notebook's own limit evicts nobody else", not rich.status().info.evicted, stalled)
        for name in ("rich", "pinned", "busy", "crowded"):
            client.open(name).delete()


def evicted(machine: Machine, notebook: cellblock.Notebook, why: str) -> None:
    began = time.monotonic()
    gone = until("an eviction", lambda: notebook.status().info.evicted)
    machine.tell(f"{why}: the idle worker is evicted", gone, f"after {time.monotonic() - began:.1f} s")


def comes_back(machine: Machine, notebook: cellblock.Notebook) -> None:
    back = notebook.execute(STILL).result(PATIENCE)
    took = f"{back.outcome.end}, worker after {back.outcome.worker_seconds} s"
    machine.tell("it comes back", back.stdout == f"{BYTES} True\n", took)


@contextmanager
def bound() -> Iterator[int]:
    """The unit of workers may take little more than it does."""
    cached = sum(figure(GROUP / "memory.stat", name) for name in ("inactive_file", "active_file"))
    most = int((int(readable(GROUP / "memory.current")) - cached) * 1.15)
    must("systemctl", "set-property", "--runtime", GROUP.name, f"MemoryMax={most}")
    try:
        yield most
    finally:
        must("systemctl", "set-property", "--runtime", GROUP.name, "MemoryMax=infinity")


@contextmanager
def hog(percent: float) -> Iterator[float]:
    """A process that leaves that part of the memory, as far as it comes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOG, str(percent)], user=0, group=0, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield float(process.stdout.readline() or "nan")
    finally:
        process.kill()
        process.wait()
