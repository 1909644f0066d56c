"""Checkpoints, the worker's part: between two cells the variables are handed to the store, or come from it.

A fork saves while the next cell runs. Where other threads run user code, a fork would copy them in the middle
of what they do, and locks that nobody opens any more: then the worker itself saves, and the next cell waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time

from . import checkpoint, checkpoint_store, names
from .channel import Channel
from .checkpoint_native import CheckpointError, CheckpointNative
from .shell import Shell
from .snapshot import Forks, Snapshot

# A fork that has not ended by then hangs in a lock that it has copied; the store has given it up before.
FORK_SECONDS = 120

MOST_LOSSES = 100


class Saver:
    """Of one worker."""

    def __init__(self, channel: Channel, shell: Shell, loop: asyncio.AbstractEventLoop) -> None:
        self._native = CheckpointNative(channel.native.path)
        self._forks = Forks(channel.native.path)
        self._channel = channel
        self._shell = shell
        self._loop = loop
        self._hidden = dict(shell.user_ns_hidden)
        self._baseline = checkpoint.Baseline()

    def save(self, execution: str, fd: int) -> None:
        """Begins a checkpoint; over the descriptor is the store."""
        begun = time.monotonic_ns()
        with socket.socket(fileno=fd) as store:
            snapshot = None
            if threading.active_count() > 1:
                with contextlib.suppress(CheckpointError):
                    self._offer(store, execution, forked=False)
            else:
                try:
                    snapshot = self._forks.aside(store.fileno())
                except OSError:
                    with contextlib.suppress(CheckpointError):
                        self._offer(store, execution, forked=False)
                else:
                    if snapshot is None:
                        self._be_snapshot(store, execution)
        if snapshot is not None:
            self._loop.call_later(FORK_SECONDS, _end, snapshot)
        self._channel.send({"snapshot": {"pause_us": (time.monotonic_ns() - begun) // 1_000}})

    def _be_snapshot(self, store: socket.socket, execution: str) -> None:
        """In the fork, which ends here. What goes wrong the store tells."""
        try:
            self._offer(store, execution, forked=True)
        finally:
            os._exit(0)

    def _offer(self, store: socket.socket, execution: str, *, forked: bool) -> None:
        saved = checkpoint.save(self._shell.user_ns, self._hidden, self._shell, self._baseline)
        checkpoint_store.offer(self._native, saved, store, execution, forked=forked)

    def restore(self, fd: int) -> None:
        """Loads what the store has opened, and says what is there."""
        shell = self._shell
        before = names.snapshot(shell.user_ns, shell.user_ns_hidden)
        losses: list[dict[str, str]] = []
        failed = None
        with socket.socket(fileno=fd) as store:
            try:
                with checkpoint_store.Opened.receive(store) as opened:
                    losses = opened.load(self._native, shell.user_ns, shell).losses
            except Exception as error:
                failed = f"{type(error).__name__}: {error}"[:1_000]
        after = names.snapshot(shell.user_ns, shell.user_ns_hidden)
        changes = names.changes(before, after, shell.user_ns)
        restored = {"names": changes, "losses": losses[:MOST_LOSSES], "failed": failed}
        self._channel.send({"restored": restored})


def _end(snapshot: Snapshot) -> None:
    if not snapshot.has_ended():
        snapshot.kill()
    snapshot.close()
