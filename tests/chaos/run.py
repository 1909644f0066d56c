"""Chaos: random cells in many notebooks while everything is killed, and a model says what must hold.

    python -m tests.chaos.run --seed 1 --minutes 30 --notebooks 50 --clients 4

Clients run cells of every sort in notebooks, alone and in bursts, go away in the middle, and read what others
have left from where it stands. Meanwhile cellblockd, shims, inits, workers, zygotes, spares, store processes
and snapshots get SIGKILL, and the disk fills. What must hold:

- each Execution that was accepted has one Outcome, which is the same for all who ask, and ends as its code
  says unless somebody has killed a part of its notebook meanwhile;
- outputs are numbered without a gap that is not marked, nothing comes twice, and text that is whole is what
  was printed;
- what was told as saved comes back, what is lost is told, and no cell runs twice;
- no request takes longer than two minutes;
- after all notebooks are closed there is nothing more than before: processes, mounts, cgroups, loop devices,
  cellblockd's descriptors, files.

Exit code 0: all held; 1: something did not, and the log says what. The seed decides all that is chosen, not
when things happen. As root, with `clients/python/src` on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import threading
import time
from functools import partial
from pathlib import Path

from tests.faults.daemon import PROFILES, Daemon, running
from tests.faults.threads import beside, together

from cellblock import CellblockError, CheckpointEvent, Client, ConnectionLost, Timeout
from cellblock._requests import Checkpointing

from . import cells, census, report
from .killer import SPARE_PROFILE, Killer
from .record import Cell, Counts
from .subject import BOUND_SECONDS, DISK_FILLED, Subject, patiently

_DISK_BYTES_PER_NOTEBOOK = 64 << 20

_CHECKPOINTS = '[checkpoints]\nwhen = "background"\nkeep_last = 5\n'
_CHAOS_PROFILES = {
    "executed": "version = 1\n" + _CHECKPOINTS + cells.LIMITS,
    "forked": "version = 1\nwarm_start = 'zygote'\nspares = 0\n" + _CHECKPOINTS + cells.LIMITS,
    SPARE_PROFILE: "version = 1\nwarm_start = 'zygote'\nspares = 2\n" + _CHECKPOINTS + cells.LIMITS,
}


def main() -> int:
    """Runs what the command line says."""
    parser = report.arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--notebooks", type=int, default=50)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--gap", type=float, default=0.7, help="seconds between two kills, in the mean [0.7]")
    parser.add_argument(
        "--logs", type=Path, default=Path("/tmp"), help="where the log goes if something breaks"
    )
    options = parser.parse_args()
    counts = Counts()
    begun = time.monotonic()
    daemon = Daemon(
        options.bin_dir,
        options.python,
        _DISK_BYTES_PER_NOTEBOOK * max(options.notebooks, 8),
        profiles={**PROFILES, **_CHAOS_PROFILES},
    )
    with running(daemon, counts.violations):
        before, after = _chaos(daemon, options, counts)
        log = daemon.log()
    tables: dict[str, report.Table] = {
        "run": {
            "seed": options.seed,
            "notebooks": options.notebooks,
            "clients": options.clients,
            "seconds": round(time.monotonic() - begun),
            "slowest answer, seconds": round(counts.slowest_seconds, 2),
            "which was": counts.slowest,
        },
        "executions, by end": dict(sorted(counts.ends.items())),
        "kills": dict(sorted(counts.kills.items())),
        "variables, as found": dict(sorted(counts.found.items())),
        "done": dict(sorted(counts.did.items())),
        "refused": dict(sorted(counts.refused.items())),
        "left, before and after": {
            name: f"{before.get(name, 0)} {after.get(name, 0)}" for name in sorted({*before, *after})
        },
        "verdict": {"violations": len(counts.violations)},
    }
    report.show(tables, options.json)
    if counts.rarities:
        (options.logs / f"chaos-seed-{options.seed}-rare.log").write_text("\n\n".join(counts.rarities))
    if not counts.violations:
        return 0
    file = options.logs / f"chaos-seed-{options.seed}.log"
    file.write_text(f"{' '.join(sys.argv)}\n\n" + "\n\n".join(counts.violations) + f"\n\n{log}")
    for violation in counts.violations[:10]:
        print("\n" + violation.partition("\n")[0][:1000], file=sys.stderr)
    print(f"\nall of it is in {file}", file=sys.stderr)
    return 1


def _chaos(
    daemon: Daemon, options: argparse.Namespace, counts: Counts
) -> tuple[census.Census, census.Census]:
    seed, clients = options.seed, options.clients
    choice = random.Random(f"{seed}/notebooks")
    names = [f"chaos{number}" for number in range(options.notebooks)]
    profiles = choice.choices(list(_CHAOS_PROFILES), (2, 6, 2), k=len(names))
    subjects = [Subject(daemon, name, profile, counts) for name, profile in zip(names, profiles, strict=True)]
    with daemon.client() as client:
        _warm_up(client)
    before = census.settled(daemon)
    killer = Killer(daemon, subjects, seed, options.gap, counts)
    with beside("listener", _Listener(daemon, subjects).run):
        with beside("disk", partial(_watch_disk, daemon, subjects)), beside("killer", killer.run):
            until = time.monotonic() + 60 * options.minutes
            together(
                [partial(_client, daemon, subjects, f"{seed}/{number}", until) for number in range(clients)]
            )
        together([partial(_finish, daemon, subjects[number::clients]) for number in range(clients)])
    after = census.settled(daemon, before)
    for name, (was, now) in census.more(before, after).items():
        lines = "\n    ".join(census.described(daemon))
        counts.violations.append(f"left: {was} {name} before, {now} after\n    {lines}")
    return before, after


def _warm_up(client: Client) -> None:
    """What is made once, and stays, is there before anything is counted."""
    for profile in _CHAOS_PROFILES:
        notebook = client.open(f"warm-{profile}", profile)
        notebook.execute("1", timeout=BOUND_SECONDS).wait()
        notebook.delete(timeout=BOUND_SECONDS)


def _client(daemon: Daemon, subjects: list[Subject], seed: str, until: float) -> None:
    """One client: takes this and that notebook that nobody else has just now."""
    choice = random.Random(seed)
    with daemon.client() as client:
        for subject in subjects:
            subject.open(client)
        while time.monotonic() < until:
            subject = choice.choice(subjects)
            if not subject.lock.acquire(blocking=False):
                continue
            try:
                _turn(client, subject, choice)
            except Exception as error:
                subject.broke(f"a client met {error!r}")
            finally:
                subject.lock.release()


def _turn(client: Client, subject: Subject, choice: random.Random) -> None:
    if choice.random() < 0.8:
        # Else what is left runs on beside what comes.
        subject.settle(client)
    act = choice.choices(
        ("cells", "again", "checkpoint", "restart", "restore", "question"), (80, 8, 4, 2, 2, 4)
    )[0]
    if act == "cells":
        subject.run(client, _burst(choice))
    elif act == "question":
        subject.ask_something(client, choice)
    elif act == "again":
        subject.again(client, choice)
    else:
        subject.settle(client)
        if act == "checkpoint":
            subject.checkpoint(client)
        elif act == "restart":
            subject.restart(client)
        else:
            subject.restore(client, choice)


def _burst(choice: random.Random) -> list[Cell]:
    count = choice.choices((1, 2, 4), (6, 3, 1))[0]
    return [_cell(choice, is_last=number == count - 1) for number in range(count)]


def _cell(choice: random.Random, *, is_last: bool) -> Cell:
    kind = cells.draw(choice)
    when: list[Checkpointing | None] = [None, "wait", "background", "none"]
    leave_after = choice.choice((-1, 0, 1, 2, 5, 20)) if choice.random() < 0.25 else None
    if leave_after is not None and (kind.asks or not is_last):
        # Who is not accepted has no place: it could come after the next, and ask when nobody answers any
        # more. Nothing runs behind who asks.
        leave_after = None if kind.asks and not is_last else max(0, leave_after)
    return Cell(kind, choice.choices(when, (5, 3, 1, 2))[0], leave_after)


def _finish(daemon: Daemon, subjects: list[Subject]) -> None:
    """Reads what is left; the worker dies once more, and what was acknowledged comes back; all is removed."""
    with daemon.client() as client:
        for subject in subjects:
            try:
                subject.settle(client)
                subject.look(client)
                if (worker := daemon.sandbox(subject.name).get("worker")) is not None:
                    subject.harm("killed at the end")
                    worker.kill()
                subject.look(client)
                patiently(partial(subject.notebook(client).delete, timeout=BOUND_SECONDS))
            except Exception as error:
                subject.broke(f"at the end: {error!r}")


def _watch_disk(daemon: Daemon, subjects: list[Subject], stop: threading.Event) -> None:
    """Tells each notebook while the disk is full, also of what they keep."""
    told = 0.0
    while not stop.wait(0.02):
        now = time.monotonic()
        if now >= told + 0.5 and daemon.is_disk_full():
            told = now
            for subject in subjects:
                subject.harm(DISK_FILLED)


class _Listener:
    """Hears of checkpoints that were written in the background."""

    def __init__(self, daemon: Daemon, subjects: list[Subject]) -> None:
        self._daemon = daemon
        self._subjects = {subject.name: subject for subject in subjects}

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with contextlib.suppress(CellblockError, OSError), self._daemon.client() as client:
                self._listen(client, stop)

    def _listen(self, client: Client, stop: threading.Event) -> None:
        with client.events(timeout=BOUND_SECONDS) as events:
            while not stop.is_set():
                try:
                    event = events.wait(0.5)
                except Timeout:
                    continue
                except ConnectionLost:
                    return
                if isinstance(event, CheckpointEvent) and event.checkpoint.is_saved:
                    subject = self._subjects.get(event.notebook)
                    if subject is not None:
                        subject.saved(event.execution_id)


if __name__ == "__main__":
    sys.exit(main())
