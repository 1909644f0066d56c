"""A state made, saved, changed, saved again, lost and had back: once with cellblock, once with each peer."""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

import cellblock
from bench.checkpoint_states import State
from bench.checkpoint_table import Column
from bench.memory import processes_of
from bench.peers import PATIENCE_SECONDS, BenchError
from bench.setup import Daemon

PROFILE: Final = "bench-checkpoints"
PROFILES: Final = {PROFILE: 'version = 1\nbase = "default"\n[checkpoints]\nwhen = "background"\n'}
"""The default profile, with checkpoints."""
FRAGMENTS: Final = 100
"""So often one element of an array changes, with a checkpoint after each, before it is had back in pieces."""
_PROCESSES: Final = 3
"""A notebook's while it does nothing: shim, init, worker."""
_END_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.005
_UNDISTURBED: Final = 5
_REWRITES: Final = 3
_RESTORES: Final = 3
_HERE: Final = Path(__file__).parent
_LOOK: Final = (_HERE / "checkpoint_look.py").read_text()
_NUMBERS: Final = itertools.count(1)

Checkpointing: TypeAlias = Literal["none", "background", "wait"]
Measured: TypeAlias = dict[Column, list[float]]
"""Values of one system for one state."""


class Peer:
    """A process of `checkpoint_peers`, there when it has imported what it needs."""

    def __init__(self, python: Path, system: str, folder: str) -> None:
        code = f"import sys; sys.path.insert(0, {str(_HERE)!r}); __import__('checkpoint_peers').main()"
        self._system = system
        self._process = subprocess.Popen(
            [python, "-c", code, system, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        # The first reply says that it is there.
        self._hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, **request: object) -> dict[str, Any]:
        """One request and its reply."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        return self._hear()

    def look(self, names: tuple[str, ...]) -> dict[str, str]:
        """As `checkpoint_look` says."""
        found: dict[str, str] = self.ask(look=_LOOK, names=names)["found"]
        return found

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        patience = threading.Timer(PATIENCE_SECONDS, self._process.kill)
        patience.start()
        try:
            line = self._process.stdout.readline()
        finally:
            patience.cancel()
        reply: dict[str, Any] = json.loads(line) if line else {"failed": "its process has ended"}
        if "failed" in reply:
            raise BenchError(f"{self._system}: {reply['failed']}")
        return reply


def measure_peer(python: Path, system: str, state: State) -> Measured:
    """It saves after each cell, and the user waits; then another process loads."""
    with tempfile.TemporaryDirectory(prefix="cellblock-bench-") as folder:
        with Peer(python, system, folder) as peer:
            saves = [peer.ask(cell=cell) for cell in state.cells]
            same = peer.ask(cell="pass")
            change = peer.ask(cell=state.change)
            before = peer.look(state.names)
        began = time.perf_counter()
        with Peer(python, system, folder) as peer:
            loaded = peer.ask(load=change["saved"], first=state.first)
            whole = time.perf_counter() - began
            after = peer.look(state.names)
    return {
        Column.PAUSE: [save["pause_ms"] for save in saves],
        Column.PAUSE_CHANGE: [change["pause_ms"]],
        Column.CPU: [sum(save["cpu_seconds"] for save in saves)],
        Column.BYTES: [sum(save["bytes"] for save in saves) / 1e6],
        Column.BYTES_SAME: [same["bytes"] / 1e6],
        Column.BYTES_CHANGE: [change["bytes"] / 1e6],
        Column.RESTORE: [loaded["milliseconds"]],
        Column.RESTORE_WHOLE: [1e3 * whole],
        # Nothing runs while they save.
        **({Column.BESIDE: [1.0]} if state.rewrite else {}),
        **compare(before, after, frozenset()),
    }


def compare(before: dict[str, str], after: dict[str, str], told: frozenset[str]) -> Measured:
    """How many variables came back as they were, are missing and told to be, or are neither."""
    right = sum(after.get(name) == digest for name, digest in before.items())
    left_out = sum(name in told and name not in after for name in before)
    return {
        Column.RIGHT: [right],
        Column.LEFT_OUT: [left_out],
        Column.WRONG: [len(before) - right - left_out],
    }


class Ours:
    """A notebook of cellblock's."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._name = f"saved-{next(_NUMBERS)}"
        self.notebook = daemon.client.open(self._name, PROFILE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.notebook.delete()

    @property
    def folder(self) -> Path:
        """Where its checkpoints are."""
        return self._daemon.supervisor.socket_path.parent / "state/notebooks" / self._name / "checkpoints"

    def run(self, code: str, checkpoint: Checkpointing = "none") -> cellblock.Completed:
        """One cell, to its end."""
        completed = self.notebook.execute(code, timeout=PATIENCE_SECONDS, checkpoint=checkpoint).result()
        if not completed.outcome.ok:
            raise BenchError(f"cellblock ended {code[:80]!r} with {completed.outcome}")
        return completed

    def save(self) -> cellblock.Checkpoint:
        """To its end."""
        checkpoint = self.run("pass", "wait").outcome.checkpoint
        if checkpoint is None or checkpoint.id is None:
            raise BenchError(f"cellblock did not save: {checkpoint}")
        return checkpoint

    def delay_ms(self, checkpoint: Checkpointing) -> float:
        """Of a cell and the next one, sent when the first has ended: all the time in which neither ran."""
        began = time.perf_counter()
        ran = [self.run("pass", checkpoint), self.run("1+1")]
        seconds = time.perf_counter() - began
        return 1e3 * (seconds - sum(one.outcome.wall_seconds for one in ran))

    def cpu_seconds(self) -> float:
        """Of cellblockd, the shim, init and the worker, with all their children that have ended.

        So a snapshot and a store process are in it, which end as a checkpoint does; with the kernel's
        resolution of 10 ms for each process.
        """
        # A snapshot ends a little after its checkpoint; giving its pages back is a part of what it costs.
        until = time.monotonic() + _END_SECONDS
        while len(processes := processes_of(self.notebook)) > _PROCESSES:
            if time.monotonic() > until:
                raise BenchError(f"{len(processes)} processes are left after a save")
            time.sleep(_POLL_SECONDS)
        ticks = 0
        for pid in [self._daemon.supervisor.pid, *processes]:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def look(self, names: tuple[str, ...]) -> dict[str, str]:
        """As `checkpoint_look` says; no name is left."""
        run = f"(lambda scope: (exec({_LOOK!r}, scope), scope['look'](globals(), {list(names)!r}))[1])({{}})"
        completed = self.run(f"print(__import__('json').dumps({run}))")
        found: dict[str, str] = json.loads(completed.stdout)
        return found

    def restore(self, first: str) -> tuple[float, frozenset[str]]:
        """Milliseconds from the worker's end to the first use in the next one; and what is told as lost."""
        # There must be one that can end.
        self.run("pass")
        self._daemon.settle()
        self.notebook.execute("import os; os._exit(1)", checkpoint="none").result()
        began = time.perf_counter()
        completed = self.run(first)
        milliseconds = 1e3 * (time.perf_counter() - began)
        notices = [output for output in completed.outputs if isinstance(output, cellblock.Notice)]
        return milliseconds, frozenset(name for notice in notices for name in notice.names)


def measure_ours(daemon: Daemon, state: State) -> Measured:
    """The same as of a peer; the user does not wait, so what he notices is looked for in the next cells."""
    with Ours(daemon) as ours:
        found = _saves(ours, state)
        if state.rewrite:
            _beside(ours, state.rewrite, found)
        before = ours.look(state.names)
        ours.save()
        times = [ours.restore(state.first)]
        after = ours.look(state.names)
        times += [ours.restore(state.first) for _ in range(_RESTORES - 1)]
        milliseconds = [found for found, _ in times]
        restored = {Column.RESTORE: milliseconds, Column.RESTORE_WHOLE: milliseconds}
        return {**found, **restored, **compare(before, after, times[0][1])}


def _saves(ours: Ours, state: State) -> Measured:
    cpu_seconds, written = 0.0, 0
    pauses = []
    base = statistics.median(ours.delay_ms("none") for _ in range(_UNDISTURBED))
    for cell in state.cells:
        ours.run(cell)
        before = ours.cpu_seconds()
        checkpoint = ours.save()
        cpu_seconds += ours.cpu_seconds() - before
        if written == 0:
            _check(ours.folder, checkpoint.written_bytes)
        written += checkpoint.written_bytes
        pauses.append(ours.delay_ms("background") - base)
        ours.save()
    same = ours.save()
    ours.run(state.change)
    change = ours.save()
    change_pauses = []
    for _ in range(_RESTORES):
        change_pauses.append(ours.delay_ms("background") - base)
        ours.save()
    return {
        Column.PAUSE: pauses,
        Column.PAUSE_CHANGE: change_pauses,
        Column.CPU: [cpu_seconds],
        Column.BYTES: [written / 1e6],
        Column.BYTES_SAME: [same.written_bytes / 1e6],
        Column.BYTES_CHANGE: [change.written_bytes / 1e6],
    }


def _beside(ours: Ours, rewrite: str, found: Measured) -> None:
    """A cell that writes to everything just when everything is being saved."""
    found[Column.BESIDE] = []
    for _ in range(_REWRITES):
        # After a snapshot the first to write pays for what it left, whether another one runs or not.
        ours.run(rewrite)
        undisturbed = ours.run(rewrite).outcome.wall_seconds
        base = ours.delay_ms("none")
        found[Column.PAUSE].append(ours.delay_ms("background") - base)
        found[Column.BESIDE].append(ours.run(rewrite).outcome.wall_seconds / undisturbed)
        ours.save()


def _check(folder: Path, written: int) -> None:
    """What is told to be written must be there."""
    there = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if there < written:
        raise BenchError(f"cellblock says it wrote {written} bytes, and has {there}")


def measure_fragmented(daemon: Daemon, state: State) -> list[float]:
    """Milliseconds to the first use of an array that was saved in many pieces."""
    places = random.Random(1).sample(range(state.array_bytes // 8), FRAGMENTS)
    with Ours(daemon) as ours:
        for cell in state.cells:
            ours.run(cell)
        ours.save()
        for place in places:
            ours.run(f"x[{place}] = {place}.0", "wait")
        times = [ours.restore(state.first) for _ in range(_RESTORES)]
        return [milliseconds for milliseconds, _ in times]
