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
    nonce: ctypes.Array[ctypes.c_uint8]


class Native:
    """The loaded library. Raises `OSError` when it cannot be loaded, or a call fails."""

    def __init__(self, path: str) -> None:
        self.path = path
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
        self._pipes = Pipes(1, 2, (ctypes.c_uint8 * 16)(), 0)
        self._address = ctypes.addressof(self._pipes)

    def begin(self, nonce: bytes) -> None:
        """Marks bear this nonce from now on, and count from 1."""
        ctypes.memmove(self._pipes.nonce, nonce, len(self._pipes.nonce))
        self._pipes.number = 0

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


class Joint:
    """The zygote's half of the library. It is called with the interpreter's lock held: nothing of Python may
    run while a worker is forked."""

    def __init__(self, path: str) -> None:
        library = ctypes.PyDLL(path)
        self._serve = library.cellblock_zygote_serve
        self._serve.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self._seal = library.cellblock_seal
        self._seal.argtypes = [ctypes.c_int]

    def serve(self, listener: int) -> tuple[int, bytes, bool]:
        """Forks workers for whoever connects. Returns in each of them: what `seal` wants, the nonce, and
        whether nobody waits for it yet."""
        nonce, spare = (ctypes.c_uint8 * 16)(), ctypes.c_int()
        channel = self._serve(listener, ctypes.addressof(nonce), ctypes.addressof(spare))
        if channel < 0:
            raise OSError(-channel, f"failed to serve: {os.strerror(-channel)}")
        return channel, bytes(nonce), bool(spare)

    def seal(self, channel: int) -> None:
        """In a worker: waits for its notebook and takes the last steps. It does not return on failure."""
        self._seal(channel)
