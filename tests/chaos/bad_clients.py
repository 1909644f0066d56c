"""Bad clients: how much longer a well-behaved one waits for `1+1` while others misbehave.

    python -m tests.chaos.bad_clients --samples 1000

Others are processes of other users, niced, so that what is seen is cellblockd's doing and not who gets a
processor. Each kind is measured in turns with nobody there, several times, because machines have moods; the
ratio of the 99th percentiles is what counts, and it is to be below two.

Exit code 0: it is, and the well-behaved client was never refused; 1: not.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

from tests.faults.daemon import BOUND_SECONDS, Daemon, running

from cellblock import CellblockError, Notebook
from cellblock._protocol import Session

from . import census, report

_FIRST_UID: Final = 61_000
_USERS: Final = 8
_GROUP: Final = 61_000
_LIMITS: Final = "[limits]\nwall_ms = 8_000\nworkspace_bytes = 16_777_216\n"
_PROFILES: Final = {
    "bad": "version = 1\nwarm_start = 'zygote'\n[checkpoints]\nwhen = 'none'\n" + _LIMITS,
}
_TURNS: Final = 5
_ALLOWED_RATIO: Final = 2.0
_FORK: Final = multiprocessing.get_context("fork")


def main() -> int:
    """Runs what the command line says."""
    parser = report.arguments(__doc__)
    parser.add_argument("--samples", type=int, default=1000, help="of each kind, and of nobody [1000]")
    parser.add_argument("--kind", action="append", choices=sorted(_KINDS), help="only this; may be repeated")
    options = parser.parse_args()
    wrong: list[str] = []
    tables: dict[str, report.Table] = {}
    # Who runs a cell holds a place until it ends: that is bounded by tenant, and not what is looked at here.
    more = [f"--socket-group={_GROUP}", "--max-running=64"]
    more += [f"--allow-uid={_FIRST_UID + number}" for number in range(_USERS)]
    daemon = Daemon(options.bin_dir, options.python, profiles=_PROFILES, options=more)
    with running(daemon, wrong):
        daemon.is_emptied = False
        (daemon.home / "run").chmod(0o711)
        for kind in options.kind or _KINDS:
            quiet, loud = _measured(daemon, kind, options.samples, wrong)
            tables[kind] = _row(quiet, loud)
    for kind, row in tables.items():
        ratio = row["99th, ratio"]
        if not isinstance(ratio, float) or ratio > _ALLOWED_RATIO:
            wrong.append(f"{kind}: the 99th percentile is {ratio} times that of nobody being there")
    tables["verdict"] = {"wrong": len(wrong)}
    report.show(tables, options.json)
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


def _row(quiet: Sequence[float], loud: Sequence[float]) -> report.Table:
    row: dict[str, report.Value] = {}
    for name, part in (("median", 0.5), ("99th", 0.99)):
        one, two = report.percentile(quiet, part), report.percentile(loud, part)
        row[f"{name}, ms, nobody there"] = report.milliseconds(one)
        row[f"{name}, ms"] = report.milliseconds(two)
        row[f"{name}, ratio"] = round(two / one, 2) if one and two else None
    return row


def _measured(daemon: Daemon, kind: str, samples: int, wrong: list[str]) -> tuple[list[float], list[float]]:
    quiet: list[float] = []
    loud: list[float] = []
    with daemon.client() as client:
        notebook = client.open("good", "bad")
        notebook.execute("1", timeout=BOUND_SECONDS).wait()
        for turn in range(_TURNS):
            _settle(daemon)
            _sample(notebook, samples // _TURNS, quiet, wrong)
            with _bad(daemon.socket, kind, turn):
                _sample(notebook, samples // _TURNS, loud, wrong)
    return quiet, loud


def _settle(daemon: Daemon) -> None:
    """Waits until what the turn before has left is done."""
    until = time.monotonic() + BOUND_SECONDS
    used = census.processor_seconds(daemon.pid)
    while time.monotonic() < until:
        time.sleep(0.5)
        before, used = used, census.processor_seconds(daemon.pid)
        if used - before < 0.02:
            break


def _sample(notebook: Notebook, count: int, into: list[float], wrong: list[str]) -> None:
    for _ in range(count):
        began = time.perf_counter()
        try:
            outcome = notebook.execute("1+1", timeout=BOUND_SECONDS).wait()
        except CellblockError as error:
            wrong.append(f"the well-behaved client met {error!r}")
            continue
        into.append(time.perf_counter() - began)
        if not outcome.ok:
            wrong.append(f"the cell of the well-behaved client has ended with {outcome.end}")


@contextlib.contextmanager
def _bad(path: Path, kind: str, turn: int) -> Iterator[None]:
    count, act = _KINDS[kind]
    readies = [_FORK.Event() for _ in range(count)]
    processes: list[BaseProcess] = [
        _FORK.Process(target=_become, args=(number, act, path, ready, turn), daemon=True)
        for number, ready in enumerate(readies)
    ]
    for process in processes:
        process.start()
    for ready in readies:
        ready.wait(BOUND_SECONDS)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


Act = Callable[[Path, Event, random.Random], None]


def _become(number: int, act: Act, path: Path, ready: Event, turn: int) -> None:
    """In a process of its own: another user, and not first in line for a processor."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    os.nice(19)
    os.setgroups([_GROUP])
    os.setresgid(_GROUP, _GROUP, _GROUP)
    uid = _FIRST_UID + number % _USERS
    os.setresuid(uid, uid, uid)
    try:
        act(path, ready, random.Random(f"{number}/{turn}"))
    finally:
        # Nobody waits for one that has failed.
        ready.set()


# What they do; each says when it has begun, and goes on until it is killed.


def _half_open(path: Path, ready: Event, choice: random.Random) -> None:
    """Connects, says nothing, a byte, or half a greeting, and waits."""
    hello = Session().hello()
    held = [_connected(path) for _ in range(60)]
    for connection in held:
        connection.sendall(hello[: choice.choice((0, 1, 15, 16, len(hello) - 1))])
    ready.set()
    time.sleep(3600)


def _garbage(path: Path, ready: Event, choice: random.Random) -> None:
    """Sends what is no frame, again and again."""
    ready.set()
    while True:
        with contextlib.suppress(OSError), contextlib.closing(_connected(path)) as connection:
            connection.sendall(choice.randbytes(4096))
            connection.recv(4096)


def _slow_reader(path: Path, ready: Event, choice: random.Random) -> None:
    """Runs cells that put out very much, and reads none of it."""
    held = []
    for number in range(4):
        connection, session = _greeted(path)
        name = f"slow{os.getuid()}-{number}-{choice.randrange(1 << 30)}"
        _ask(connection, session, {"open_notebook": {"notebook": name, "profile": "bad"}})
        options = {"on_disconnect": "interrupt"}
        execute = {"execute": {"notebook": name, "execution": "flood", "options": options}}
        connection.sendall(session.request(execute, b"while True: print('x' * 1000)"))
        connection.recv(64)
        held.append(connection)
    ready.set()
    time.sleep(3600)


def _flood(path: Path, ready: Event, choice: random.Random) -> None:
    """Asks much faster than it reads."""
    connection, session = _greeted(path)
    many = b"".join(session.request("notebooks") for _ in range(200))
    connection.setblocking(False)
    ready.set()
    while True:
        with contextlib.suppress(BlockingIOError):
            connection.sendall(many)
        with contextlib.suppress(BlockingIOError):
            connection.recv(1 << 16)
        time.sleep(0.001)


def _killed(path: Path, ready: Event, choice: random.Random) -> None:
    """Ends in the middle of requests, of which half a frame is out."""
    ready.set()
    name = f"killed{os.getuid()}"
    while True:
        with contextlib.suppress(OSError), contextlib.closing(_connected(path)) as connection:
            session = Session()
            connection.sendall(session.hello())
            opening = {"open_notebook": {"notebook": name, "profile": "bad"}}
            options: dict[str, object] = {}
            execution = f"cell-{choice.randrange(1 << 60)}"
            execute = {"execute": {"notebook": name, "execution": execution, "options": options}}
            data = session.request(opening) + session.request(execute, b"print('x' * 100_000)")
            connection.sendall(data[: choice.randrange(len(data) + 1)])
        time.sleep(0.02)


def _many(path: Path, ready: Event, choice: random.Random) -> None:
    """Has as many connections as one user may, and tries to have more."""
    held = []
    for _ in range(125):
        with contextlib.suppress(OSError, CellblockError):
            held.append(_greeted(path))
    ready.set()
    time.sleep(3600)


def _connected(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(BOUND_SECONDS)
    connection.connect(str(path))
    return connection


def _greeted(path: Path) -> tuple[socket.socket, Session]:
    connection, session = _connected(path), Session()
    connection.sendall(session.hello())
    _answer(connection, session)
    return connection, session


def _ask(connection: socket.socket, session: Session, meta: object) -> None:
    connection.sendall(session.request(meta))
    _answer(connection, session)


def _answer(connection: socket.socket, session: Session) -> None:
    while session.next_reply() is None:
        data = connection.recv(1 << 16)
        if not data:
            raise ConnectionResetError("cellblockd closed it")
        session.feed(data)


_KINDS: Final[dict[str, tuple[int, Act]]] = {
    "480 half-open connections": (8, _half_open),
    "bytes that are no frames": (4, _garbage),
    "32 slow readers of much output": (8, _slow_reader),
    "floods of requests": (4, _flood),
    "clients killed mid-request": (8, _killed),
    "1000 connections": (8, _many),
}


if __name__ == "__main__":
    sys.exit(main())
