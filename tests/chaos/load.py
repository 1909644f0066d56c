"""Many known notebooks, few of them resident: how long a hit takes on one and on the other.

    python -m tests.chaos.load --known 10000 --resident 200 --minutes 10

All are opened first; each gets a variable of its own when it is used for the first time, and is evicted when
others are used. Clients walk over them at random, half of the time among those that they have just used; each
look must find the variable as it was left, and now and then changes it. The Outcome says whether a worker had
to be brought back.

Exit code 0: each value was right and cellblockd's memory is flat (it may grow by a twentieth after the first
third of the time, in which each of its threads gets to do everything once); 1: not.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from tests.faults.daemon import BOUND_SECONDS, Daemon, running
from tests.faults.threads import together

from cellblock import CellblockError, Client, Notebook

from . import census, report

_PROFILES: Final = {
    "known": "version = 1\nwarm_start = 'zygote'\n[checkpoints]\nwhen = 'background'\nkeep_last = 1\n"
    "[limits]\nworkspace_bytes = 4_194_304\n"
}
_RECENT: Final = 12
"""How many a client has in mind: those are mostly resident."""
_ALLOWED_GROWTH: Final = 1.05
_STEADY_SECONDS: Final = 1.0


@dataclass
class _Found:
    resident: list[float] = field(default_factory=list)
    evicted: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    """Hits on notebooks that had never run anything."""
    brought_back: list[float] = field(default_factory=list)
    """As the Outcome says it: the part of an evicted hit that went into the worker."""
    memory: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)


def main() -> int:
    """Runs what the command line says."""
    parser = report.arguments(__doc__)
    parser.add_argument("--known", type=int, default=10_000)
    parser.add_argument("--resident", type=int, default=200, help="at most; 0: all [200]")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    found = _Found()
    daemon = Daemon(
        options.bin_dir,
        options.python,
        profiles=_PROFILES,
        options=("--max-workers", str(options.resident)) if options.resident else (),
    )
    with running(daemon, found.wrong):
        empty = census.resident_bytes(daemon.pid)
        began = time.monotonic()
        values = [0] * options.known
        together(
            [partial(_fill, daemon, values, part, options.clients, found) for part in range(options.clients)]
        )
        filled = time.monotonic() - began
        opened = census.resident_bytes(daemon.pid)
        used = census.processor_seconds(daemon.pid)
        walk = _Walk(daemon, values, options.seed, 60 * options.minutes, found)
        walk.run(options.clients)
        used = census.processor_seconds(daemon.pid) - used
        live = _close(daemon)
        on_disk = _disk_bytes(daemon)
    requests = len(found.resident) + len(found.evicted) + len(found.new)
    memory = found.memory
    settled = memory[len(memory) // 3 :]
    growth = settled[-1] / settled[0]
    if growth > _ALLOWED_GROWTH:
        found.wrong.append(f"cellblockd's memory has grown by {growth:.2f}")
    tables: dict[str, report.Table] = {
        "load": {
            "known notebooks": options.known,
            "resident at most": options.resident,
            "live at the end": live,
            "seconds to open them all": round(filled, 1),
            "memory to know one, KiB": round((opened - empty) / options.known / 1024, 2),
            "on disk per notebook, KiB": round(on_disk / options.known / 1024, 1),
            "requests": requests,
            "requests per second": round(requests / max(walk.seconds, 1e-9), 1),
            "processor of cellblockd per request, ms": report.milliseconds(used / max(1, requests)),
        },
        "milliseconds": {
            f"{name}, {which}": report.milliseconds(report.percentile(values_of, part))
            for name, values_of in (
                ("resident", found.resident),
                ("evicted", found.evicted),
                ("evicted, the worker alone", found.brought_back),
                ("never run before", found.new),
            )
            for which, part in (("median", 0.5), ("99th", 0.99))
        },
        "hits": {
            "resident": len(found.resident),
            "evicted": len(found.evicted),
            "never run before": len(found.new),
        },
        "memory of cellblockd, MiB": {
            "before any is open": round(empty / 2**20, 2),
            "with all open": round(opened / 2**20, 2),
            "after a third": round(settled[0] / 2**20, 2),
            "most": round(max(memory) / 2**20, 2),
            "at the end": round(memory[-1] / 2**20, 2),
        },
        "verdict": {"wrong": len(found.wrong)},
    }
    report.show(tables, options.json)
    print("\n".join(found.wrong[:20]), file=sys.stderr)
    return 1 if found.wrong else 0


def _fill(daemon: Daemon, values: list[int], part: int, of: int, found: _Found) -> None:
    with daemon.client() as client:
        for number in range(part, len(values), of):
            try:
                client.open(_name(number), "known")
            except CellblockError as error:
                found.wrong.append(f"{_name(number)} could not be made: {error!r}")


class _Walk:
    def __init__(self, daemon: Daemon, values: list[int], seed: int, seconds: float, found: _Found) -> None:
        self.seconds = seconds
        self._daemon = daemon
        self._values = values
        self._seed = seed
        self._found = found
        self._taken = [threading.Lock() for _ in values]
        self._made: set[int] = set()
        self._until = 0.0

    def run(self, clients: int) -> None:
        """All clients, and a look at cellblockd's memory each second."""
        self._until = time.monotonic() + self.seconds
        together([self._watch, *(partial(self._client, number) for number in range(clients))])

    def _watch(self) -> None:
        while time.monotonic() < self._until:
            self._found.memory.append(census.resident_bytes(self._daemon.pid))
            time.sleep(_STEADY_SECONDS)
        self._found.memory.append(census.resident_bytes(self._daemon.pid))

    def _client(self, which: int) -> None:
        choice = random.Random(f"{self._seed}/{which}")
        recent: deque[int] = deque(maxlen=_RECENT)
        with self._daemon.client() as client:
            while time.monotonic() < self._until:
                again = recent and choice.random() < 0.5
                number = choice.choice(recent) if again else choice.randrange(len(self._values))
                if self._taken[number].acquire(blocking=False):
                    try:
                        self._hit(client, number, changes=choice.random() < 0.2)
                    finally:
                        self._taken[number].release()
                    recent.append(number)

    def _hit(self, client: Client, number: int, *, changes: bool) -> None:
        is_new = number not in self._made
        code = f"mine = [{number}, 0]; " if is_new else ""
        code += "mine[1] += 1; print(mine)" if changes else "print(mine)"
        began = time.perf_counter()
        try:
            ended = Notebook(client, _name(number), "known").execute(code, timeout=BOUND_SECONDS).result()
        except CellblockError as error:
            self._wrong(f"{_name(number)}: {error!r}")
            return
        took = time.perf_counter() - began
        self._values[number] += changes and ended.outcome.ok
        if ended.outcome.ok:
            self._made.add(number)
        if ended.stdout.strip() != f"[{number}, {self._values[number]}]":
            told = [output for output in ended.outputs if type(output).__name__ == "Notice"]
            self._wrong(
                f"{_name(number)}: {ended.stdout.strip()!r}, should be {self._values[number]}, "
                f"{ended.outcome.end}, {told}"
            )
        with self._found.guard:
            if is_new:
                self._found.new.append(took)
            elif ended.outcome.worker_seconds is None:
                self._found.resident.append(took)
            else:
                self._found.evicted.append(took)
                self._found.brought_back.append(ended.outcome.worker_seconds)

    def _wrong(self, what: str) -> None:
        with self._found.guard:
            self._found.wrong.append(what)


def _name(number: int) -> str:
    return f"known{number}"


def _close(daemon: Daemon) -> int:
    """Closes those that have a worker; how many there were."""
    with daemon.client() as client:
        live = [info for info in client.notebooks() if info.state not in ("none", "evicted")]
        for info in live:
            Notebook(client, info.name, info.profile).close(timeout=BOUND_SECONDS)
    return len(live)


def _disk_bytes(daemon: Daemon) -> int:
    text = subprocess.run(["du", "-s", "-B1", daemon.state], capture_output=True, text=True, check=True)
    return int(text.stdout.split()[0])


if __name__ == "__main__":
    sys.exit(main())
