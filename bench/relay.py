"""Counts what a client and cellblockd say to each other: a socket between the two that passes it on.

Not for what is being timed: every byte takes a way more.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_READ_BYTES: Final = 256 << 10


class Relay:
    """Listens at `path` and passes everything on to `target`, until it is left."""

    def __init__(self, target: Path) -> None:
        self._target = target
        # In /tmp, because a socket's path has 107 bytes and TMPDIR can be any length.
        self._folder = Path(tempfile.mkdtemp(prefix="relay-", dir="/tmp"))
        self.path = self._folder / "socket"
        self._lock = threading.Lock()
        self._bytes = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def take_count(self) -> int:
        """Bytes in both directions since this was last called."""
        with self._lock:
            taken, self._bytes = self._bytes, 0
        return taken

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self._folder)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as far:
            far.connect(str(self._target))
            back = threading.Thread(target=self._pass_on, args=(far, near), daemon=True)
            back.start()
            self._pass_on(near, far)
            back.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_READ_BYTES):
                # Before they go on: whoever has them has them counted.
                with self._lock:
                    self._bytes += len(data)
                sink.sendall(data)
        # The other direction ends with this one; what waits to be sent still is.
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
