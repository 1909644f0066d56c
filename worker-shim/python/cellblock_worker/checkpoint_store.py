"""Between the worker and the store process: a saved namespace is offered, an opened one is loaded.

The store trusts nothing that is offered to it. What it opens it has verified, but for the bytes of buffers,
which are mapped as they lie; a buffer that it cannot give is a loss of what needs it, and of nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import checkpoint
from .checkpoint import versions
from .checkpoint_native import CheckpointError, CheckpointNative, Extent, Saved

_MOST_FDS = 252


def offer(
    native: CheckpointNative, saved: checkpoint.Saved, to: socket.socket, execution: str, *, forked: bool
) -> Saved:
    """Has a namespace written; `forked` as in `CheckpointNative.save`."""
    part = {
        "execution": execution,
        "python": platform.python_version(),
        "packages": versions.of_packages(saved.packages),
        "names": saved.names,
        "left_out": saved.left_out,
    }
    return native.save(to.fileno(), saved.stream, saved.buffers, json.dumps(part).encode(), forked=forked)


@dataclass(frozen=True)
class Opened:
    """A checkpoint as the store has opened it."""

    # Number, `manifest`, `passed_over`; and `buffers`, see worker-shim/src/store.rs.
    description: dict[str, Any]
    # In normalised form.
    stream: bytes
    packs: list[int]

    @classmethod
    @contextlib.contextmanager
    def receive(cls, from_store: socket.socket) -> Iterator[Opened]:
        """What the store hands over; its files are open within the block.

        # Errors
        `CheckpointError`: the store has gone without a checkpoint; its stderr says why.
        """
        message, files, _, _ = socket.recv_fds(from_store, 16, _MOST_FDS)
        try:
            if message != b"opened" or len(files) < 2:
                raise CheckpointError("the store gave no checkpoint")
            description, stream, *packs = files
            yield cls(json.loads(_whole(description)), _whole(stream), packs)
        finally:
            for fd in files:
                os.close(fd)

    def differences(self) -> list[str]:
        """The versions that are others here than where it was saved, one line each."""
        manifest = self.description["manifest"]
        return versions.differences(manifest["python"], manifest["packages"])

    def load(self, native: CheckpointNative, namespace: dict[str, Any], shell: Any) -> checkpoint.Loaded:
        """Binds what is in it."""
        places = [placed.get("Ok") for placed in self.description["buffers"]]
        mapped = iter(
            native.map_extents(
                self.packs,
                [
                    (length, [Extent(*extent) for extent in extents])
                    for length, extents in filter(None, places)
                ],
            )
        )
        buffers = [_Lost() if place is None else next(mapped) for place in places]
        with native.denormalise(self.stream) as stream:
            return checkpoint.load(stream.read(), buffers, namespace, shell)


class _Lost:
    """In the place of a buffer that is not there. Nothing takes it for one."""


def _whole(memfd: int) -> bytes:
    # It stands where the store has stopped writing.
    os.lseek(memfd, 0, os.SEEK_SET)
    with open(memfd, "rb", closefd=False) as file:
        return file.read()
