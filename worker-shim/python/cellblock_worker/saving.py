"""Checkpoints, the worker's part: between two cells the variables are handed to the store, or come from it.

A fork saves while the next cell runs. Where other threads run user code, a fork would copy them in the middle
of what they do, and locks that nobody opens any more: then the worker itself saves, and the next cell waits.
So it does when a fork has not come to writing in time. It is bounded in time itself, but for code in C.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from . import checkpoint, checkpoint_store, names
from .alarm import Alarm, OutOfTime
from .channel import Channel
from .checkpoint import files, plain_dill
from .checkpoint_native import CheckpointError, CheckpointNative
from .shell import Shell
from .snapshot import Forks, Snapshot

# A fork that has not come to writing by then hangs in a lock that it has copied, or in code of the user's.
FORK_SECONDS = 30
# And one that writes: the store has given it up before.
WRITE_SECONDS = 120
# While the worker itself collects what is to be saved, nothing else runs.
WORKER_SECONDS = 30

MOST_LOSSES = 100
REASON_CHARACTERS = 1_000

SERIALIZERS = {"cellblock": checkpoint.save, "dill": plain_dill.save}
# Which of them, by the profile.
SERIALIZER = "CELLBLOCK_SERIALIZER"


class Saver:
    """Of one worker. Made before the first cell.

    # Errors
    `ValueError`: there is no such serialiser.
    """

    def __init__(
        self, channel: Channel, shell: Shell, loop: asyncio.AbstractEventLoop, serializer: str | None = None
    ) -> None:
        chosen = os.environ.pop(SERIALIZER, "cellblock") if serializer is None else serializer
        if chosen not in SERIALIZERS:
            raise ValueError(f"no serializer {chosen!r}: choose one of {', '.join(SERIALIZERS)}")
        self._serialize = SERIALIZERS[chosen]
        self._native = CheckpointNative(channel.native.path)
        self._forks = Forks(channel.native.path)
        self._channel = channel
        self._shell = shell
        self._loop = loop
        self._hidden = dict(shell.user_ns_hidden)
        self._baseline = checkpoint.Baseline()
        self._cells = _Cells(shell)
        self._forks_hang = False
        # Classes whose instances took all the time once.
        self._refused: list[tuple[type, str]] = []

    def save(self, execution: str, fd: int) -> None:
        """Begins a checkpoint; over the descriptor is the store."""
        begun = time.monotonic_ns()
        store = socket.socket(fileno=fd)
        files.settle(self._shell.user_ns)
        failed = None
        if threading.active_count() > 1 or self._forks_hang:
            failed = self._save_here(store, execution)
        else:
            try:
                self._save_aside(store, execution)
            except OSError:
                failed = self._save_here(store, execution)
        self._tell(begun, failed)

    def _tell(self, begun: int, failed: str | None) -> None:
        told = {"pause_us": (time.monotonic_ns() - begun) // 1_000, "failed": failed}
        self._channel.send({"snapshot": told})

    def _save_aside(self, store: socket.socket, execution: str) -> None:
        hearing, saying = os.pipe()
        try:
            snapshot = self._forks.aside(store.fileno(), saying)
        except OSError:
            os.close(hearing)
            os.close(saying)
            raise
        if snapshot is None:
            self._be_snapshot(store, execution, saying)
        else:
            os.close(saying)
            _Aside(self, snapshot, store, hearing, execution)

    def _be_snapshot(self, store: socket.socket, execution: str, saying: int) -> None:
        """In the fork, which ends here. What goes wrong with the writing the store tells."""
        try:
            try:
                saved = self._saved()
            except BaseException as error:
                _say(saying, _reason(error).encode("utf-8", "replace"))
                raise
            _say(saying, _WRITING)
            checkpoint_store.offer(self._native, saved, store, execution, forked=True)
        finally:
            os._exit(0)

    def _save_here(self, store: socket.socket, execution: str) -> str | None:
        """In the worker itself; gives the reason why it cannot, unless the store tells it."""
        with store:
            try:
                saved = Alarm(WORKER_SECONDS).bound(self._saved)
                checkpoint_store.offer(self._native, saved, store, execution, forked=False)
            except CheckpointError:
                return None
            except OutOfTime as over:
                return self._give_up(*over.args)
            except Exception as error:
                return _reason(error)
        return None

    def _give_up(self, slow: type | None = None) -> str:
        reason = f"the variables could not be collected in {WORKER_SECONDS} s"
        if slow is not None:
            # Else each cell would be followed by this.
            self._refused.append((slow, f"saving one took longer than {WORKER_SECONDS} s"))
            module, name = slow.__module__, slow.__qualname__
            reason += f": an object of type {module}.{name} took too long; from now on it is left out"
        return reason

    def _saved(self) -> checkpoint.Saved:
        shell = self._shell
        return self._serialize(
            checkpoint.Subject(
                shell.user_ns,
                # What a plug-in has hidden since is the next worker's plug-in's to make.
                self._hidden | shell.user_ns_hidden,
                shell,
                self._baseline,
                names.missing,
                self._refused,
            )
        )

    def hangs(self, store: socket.socket, execution: str, cells: int) -> None:
        """A fork has been given up. The worker saves what it was to save, if that is still what there is."""
        self._forks_hang = True
        if self._cells.is_running or self._cells.begun != cells:
            # The checkpoint after the cell that has begun since has it all.
            store.close()
            return
        begun = time.monotonic_ns()
        with _unheard():
            failed = self._save_here(store, execution)
        self._tell(begun, failed)

    def is_lost(self, reason: str) -> None:
        """A fork has ended, or ends, before it has written anything."""
        self._tell(time.monotonic_ns(), reason)

    def cells(self) -> int:
        """How many have begun."""
        return self._cells.begun

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The worker's."""
        return self._loop

    def restore(self, fd: int) -> None:
        """Loads what the store has opened, and says what is there."""
        shell = self._shell
        before = names.snapshot(shell.user_ns, shell.user_ns_hidden)
        loaded = self._load(fd)
        after = names.snapshot(shell.user_ns, shell.user_ns_hidden)
        changes = names.changes(before, after, shell.user_ns)
        shell.is_restored = loaded["failed"] is None
        self._channel.send({"restored": {"names": changes, **loaded}})

    def verify(self, fd: int) -> None:
        """Loads as `restore` does, for nothing but to say what would be lost. The process is to end then."""
        with _unheard():
            loaded = self._load(fd)
        self._channel.send({"verified": {"losses": loaded["losses"], "failed": loaded["failed"]}})

    def _load(self, fd: int) -> dict[str, Any]:
        losses: list[dict[str, str]] = []
        differences: list[str] = []
        failed = None
        names.missing.clear()
        with socket.socket(fileno=fd) as store:
            try:
                with checkpoint_store.Opened.receive(store) as opened:
                    differences = opened.differences()
                    loaded = opened.load(self._native, self._shell.user_ns, self._shell)
                losses = loaded.losses
                names.missing.update(loaded.missing)
            except (Exception, SystemExit) as error:
                # A module that ends its program when it is imported ends no worker.
                failed = _reason(error)
        return {
            "losses": losses[:MOST_LOSSES],
            "failed": failed,
            "differences": differences[:MOST_LOSSES],
        }


_WRITING = b"\0"


def _say(saying: int, what: bytes) -> None:
    """To the worker, which may have died."""
    with contextlib.suppress(OSError):
        os.write(saying, what)


class _Aside:
    """A fork that saves, as the worker follows it. The store's socket is kept until it writes."""

    def __init__(
        self, saver: Saver, snapshot: Snapshot, store: socket.socket, hearing: int, execution: str
    ) -> None:
        self._saver = saver
        self._snapshot = snapshot
        self._store = store
        self._hearing = hearing
        self._execution = execution
        self._cells = saver.cells()
        self._overdue = saver.loop.call_later(FORK_SECONDS, self._hangs)
        saver.loop.add_reader(hearing, self._hear)

    def _hear(self) -> None:
        said = os.read(self._hearing, 4 * REASON_CHARACTERS)
        self._hear_no_more()
        if said != _WRITING:
            self._saver.is_lost(said.decode("utf-8", "replace") or "the process that saved has died")
        self._store.close()
        # An end of its own is seen, so that nothing of it is kept longer.
        self._overdue = self._saver.loop.call_later(WRITE_SECONDS, self._end)
        self._saver.loop.add_reader(self._snapshot.fileno(), self._end)

    def _hangs(self) -> None:
        self._hear_no_more()
        self._end()
        self._saver.hangs(self._store, self._execution, self._cells)

    def _hear_no_more(self) -> None:
        self._overdue.cancel()
        self._saver.loop.remove_reader(self._hearing)
        os.close(self._hearing)

    def _end(self) -> None:
        self._overdue.cancel()
        self._saver.loop.remove_reader(self._snapshot.fileno())
        if not self._snapshot.has_ended():
            self._snapshot.kill()
        self._snapshot.close()


class _Cells:
    """Counts them as they begin."""

    def __init__(self, shell: Shell) -> None:
        self.begun = 0
        self.is_running = False
        shell.events.register("pre_execute", self._begin)
        shell.events.register("post_execute", self._end)

    def _begin(self) -> None:
        self.begun += 1
        self.is_running = True

    def _end(self) -> None:
        self.is_running = False


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """What user code prints meanwhile is nobody's output."""
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def _reason(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:REASON_CHARACTERS]
    except Exception:
        return type(error).__name__
