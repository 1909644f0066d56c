"""The native library through ctypes: a mark, or a mark and a frame, in one uninterruptible piece."""

from __future__ import annotations

import ctypes
import errno
import os


class Pipes(ctypes.Structure):
    """Twin of `Pipes` in native/src/lib.rs; the native side counts the marks."""

    _fields_ = [
        ("out", ctypes.c_int),
        ("err", ctypes.c_int),
        ("nonce", ctypes.c_uint8 * 16),
        ("number", ctypes.c_uint64),
    ]
    number: int


class Native:
    """The loaded library. Raises `OSError` when it cannot be loaded, or a call fails."""

    def __init__(self, path: str, nonce: bytes) -> None:
        library = ctypes.CDLL(path)
        self._write_mark = library.cellblock_write_mark
        self._write_mark.argtypes = [ctypes.c_void_p]
        self._send_frame = library.cellblock_send_frame
        self._send_frame.argtypes = [
            ctypes.c_int,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_void_p,
        ]
        # Main thread only: a handler before Python's own, see native/src/nudge.rs.
        self.nudge_install = library.cellblock_nudge_install
        # Python's handler has run.
        self.nudge_seen = library.cellblock_nudge_seen
        # This process is a forked child.
        self.nudge_forget = library.cellblock_nudge_forget
        self._pipes = Pipes(1, 2, (ctypes.c_uint8 * 16).from_buffer_copy(nonce), 0)
        self._address = ctypes.addressof(self._pipes)

    @property
    def number(self) -> int:
        """Number of the last mark that is in both pipes."""
        return self._pipes.number

    def write_mark(self) -> None:
        """Writes the next mark into both pipes."""
        while (code := self._write_mark(self._address)) != 0:
            _again_or_raise(code, "write a mark")

    def send(self, socket: int, message: bytes, payload: bytes, *, memfd: bool, mark: bool) -> None:
        """Sends one frame; with `mark`, the next mark goes into both pipes, its place in the text."""
        pipes = self._address if mark else None
        while True:
            code = self._send_frame(socket, message, len(message), payload, len(payload), memfd, pipes)
            if code == 0:
                return
            _again_or_raise(code, "send a frame")


def _again_or_raise(code: int, what: str) -> None:
    # After EINTR nothing has been written. Back in Python the signal's handler runs, and may raise.
    if -code != errno.EINTR:
        raise OSError(-code, f"failed to {what}: {os.strerror(-code)}")
