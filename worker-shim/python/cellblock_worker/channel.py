"""Frames to and from the shim, and the marks that give them their place in the text.

One lock is held around everything whose order matters: text, marks and frames. It is taken with
`with` only, so that a `KeyboardInterrupt` never leaves it held.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import posix
import select
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from .native import Native

SOCKET_FD = 3
# worker.rs: INLINE_BYTES, and the shim's bound for meta that leaves room beside it.
INLINE_BYTES = 64 << 10
META_BYTES = 128 << 10

_HEADER = struct.Struct("<BBBBIII")
_MAGIC = 0xCB
_WORKER_COMMAND = 5
_WORKER_EVENT = 6
_JSON = 1
_FLAG_LAST = 0b01
_FLAG_MEMFD = 0b10

# worker exits: sysexits EX_SOFTWARE, as in worker-shim/src/main.rs.
EXIT_INTERNAL = 70


@dataclass(frozen=True)
class Command:
    """A frame from the shim."""

    request: int
    body: Any
    payload: bytes
    # A descriptor that came along; whoever takes the command has it.
    fd: int | None = None


class Channel:
    """The worker's end of the socket."""

    def __init__(self, native: Native) -> None:
        self.lock = threading.RLock()
        # Set by the text streams: pushes out what Python still buffers.
        self.flush_text: Callable[[], None] = lambda: None
        # Set by the text streams: a mark stands, a new stretch of text begins.
        self.marked: Callable[[], None] = lambda: None
        self.native = native
        self._socket: socket.socket | None = None
        self._open = False
        self._buffer = bytearray(META_BYTES + INLINE_BYTES + (64 << 10))

    def open(self) -> None:
        """Takes the socket; in a zygote's worker after the fork."""
        # A second descriptor: reading goes on when user code closes 3, and the next send says so.
        self._socket = socket.socket(fileno=os.dup(SOCKET_FD))
        self._open = True

    @property
    def is_open(self) -> bool:
        """False in a forked child, which has no frames and no marks, and in a zygote."""
        return self._open

    def fileno(self) -> int:
        """For the event loop."""
        return SOCKET_FD

    def mark(self) -> None:
        """A sync point: all text so far comes before all text to come, on both pipes."""
        with self.lock:
            self.flush_text()
            self.mark_flushed()

    def mark_flushed(self) -> None:
        """The same where the caller holds the lock and knows that nothing is buffered."""
        if not self._open:
            return
        try:
            self.native.write_mark()
        except OSError as error:
            _end(error)
        self.marked()

    def send(self, body: Any, payload: bytes = b"") -> None:
        """Sends an event behind all text so far."""
        with self.lock:
            self.flush_text()
            if not self._open:
                return
            meta = _encode({"mark": self.native.number + 1, "body": body})
            self._send(0, 0, meta, payload, mark=True)
            self.marked()

    def answer(self, request: int, answer: Any, payload: bytes = b"") -> None:
        """Answers a query. Answers have no place in the text."""
        with self.lock:
            meta = _encode({"mark": 0, "body": {"answer": answer}})
            self._send(request, _FLAG_LAST, meta, payload, mark=False)

    def _send(self, request: int, flags: int, meta: bytes, payload: bytes, *, mark: bool) -> None:
        memfd = len(payload) > INLINE_BYTES
        if memfd:
            flags |= _FLAG_MEMFD
        header = _HEADER.pack(_MAGIC, _WORKER_EVENT, _JSON, flags, request, len(meta), len(payload))
        try:
            self.native.send(SOCKET_FD, header + meta, payload, memfd=memfd, mark=mark)
        except OSError as error:
            _end(error)

    def receive(self, *, wait: bool) -> Command | None:
        """The next command. Without `wait`, None when there is none; ends the worker at end of file."""
        assert self._socket is not None
        while True:
            if wait:
                # poll, not a blocking read: the socket's mode is the shim's to choose.
                poll = select.poll()
                poll.register(SOCKET_FD, select.POLLIN)
                poll.poll()
            try:
                size, control, _, _ = self._socket.recvmsg_into(
                    [self._buffer], socket.CMSG_SPACE(4), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                if wait:
                    continue
                return None
            except OSError as error:
                _end(error)
            if size == 0:
                # The shim is gone, and with it whoever could want an answer.
                os._exit(0)
            return _decode(bytes(memoryview(self._buffer)[:size]), control)

    def close(self) -> None:
        """In a forked child: the channel is the parent's."""
        self._open = False
        self.lock = threading.RLock()  # another thread of the parent may hold the old one
        if self._socket is not None:
            self._socket.close()
        with contextlib.suppress(OSError):
            os.close(SOCKET_FD)


def _encode(message: Any) -> bytes:
    # Surrogates have no UTF-8 form; serde refuses them as escapes too.
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _decode(message: bytes, control: list[tuple[int, int, bytes]]) -> Command:
    magic, kind, codec, flags, request, meta_bytes, payload_bytes = _HEADER.unpack_from(message)
    if (magic, kind, codec) != (_MAGIC, _WORKER_COMMAND, _JSON):
        _die(f"not a command for a worker: {message[:16]!r}")
    meta_end = _HEADER.size + meta_bytes
    payload = message[meta_end : meta_end + payload_bytes]
    fd = struct.unpack("i", control[0][2][:4])[0] if control else None
    if flags & _FLAG_MEMFD and fd is not None:
        try:
            payload = _read_memfd(fd, payload_bytes)
        finally:
            os.close(fd)
        fd = None
    return Command(request, json.loads(message[_HEADER.size : meta_end]), payload, fd)


def _read_memfd(memfd: int, size: int) -> bytes:
    parts: list[bytes] = []
    offset = 0
    while offset < size:
        # One pread gives at most 2 GiB and may give less than asked for.
        part = os.pread(memfd, size - offset, offset)
        if not part:
            _die(f"a payload ends after {offset} of {size} bytes")
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _end(error: OSError) -> NoReturn:
    if error.errno in (errno.EPIPE, errno.ECONNRESET):
        os._exit(0)
    _die(error.strerror or str(error))


def _die(reason: str) -> NoReturn:
    # Not sys.stderr: user code may have replaced it. Not exceptions: user code may catch them.
    # Not os.write: ours makes a mark first, which may be what cannot be done.
    with contextlib.suppress(OSError):
        posix.write(2, f"cellblock worker: {reason} (python {sys.executable})\n".encode("utf-8", "replace"))
    os._exit(EXIT_INTERNAL)
