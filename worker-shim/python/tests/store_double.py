"""A store of a few lines for the tests of the offering client: keeps chunks, asks for those it does not know.

It does not hash: that what is sent is what was offered is tested beside the client, in Rust.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

BEGIN, BUFFER, STREAM, OFFER, DATA, NAMES, END = range(1, 8)
WANT, DONE, FAILED = 65, 66, 67
MESSAGE_BYTES = 64 << 10
CHUNK = struct.Struct("<32sI")
SENT = struct.Struct("<II")


@dataclass
class Checkpoint:
    """What one session brought, and the lengths of the chunks that had to be sent for it."""

    things: list[tuple[int, list[bytes]]] = field(default_factory=list)
    names: bytes = b""
    sent: list[int] = field(default_factory=list)


class StoreDouble:
    """Serves sessions, one at a time, in a thread of this process."""

    def __init__(self) -> None:
        self.chunks: dict[bytes, bytes] = {}
        self.checkpoints: list[Checkpoint] = []
        self.refuses: str | None = None
        # Called between an offer and its answer.
        self.offered: Callable[[], None] = lambda: None

    @contextmanager
    def session(self) -> Iterator[socket.socket]:
        """The client's end of a session, which is over when the block ends."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Not for ever: a test that fails must end.
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 30, 0))
        thread = threading.Thread(target=self._serve, args=[theirs])
        thread.start()
        with ours:
            yield ours
        thread.join(30)
        assert not thread.is_alive()

    @property
    def last(self) -> Checkpoint:
        """The newest checkpoint."""
        return self.checkpoints[-1]

    @property
    def stream(self) -> bytes:
        """The newest checkpoint's stream."""
        return self._whole(*self.last.things[-1])

    @property
    def buffers(self) -> list[bytes]:
        """The newest checkpoint's buffers."""
        return [self._whole(*thing) for thing in self.last.things[:-1]]

    def _whole(self, length: int, hashes: list[bytes]) -> bytes:
        whole = b"".join(self.chunks[name] for name in hashes)
        assert len(whole) == length
        return whole

    def _serve(self, end: socket.socket) -> None:
        checkpoint = Checkpoint()
        offered: list[tuple[bytes, int]] = []
        with end:
            while True:
                message, fds, _, _ = socket.recv_fds(end, MESSAGE_BYTES, 4)
                if not message:
                    return
                body = message[1:]
                match message[0]:
                    case tag if tag == OFFER:
                        offered = list(CHUNK.iter_unpack(body[5:]))
                        checkpoint.things[-1][1].extend(name for name, _ in offered)
                        self.offered()
                        end.send(self._want(offered))
                    case tag if tag in (BUFFER, STREAM):
                        checkpoint.things.append((struct.unpack_from("<Q", body)[0], []))
                    case tag if tag == DATA:
                        offset = 0
                        for index, length in SENT.iter_unpack(body[4:]):
                            self.chunks[offered[index][0]] = os.pread(fds[0], length, offset)
                            offset += length
                            checkpoint.sent.append(length)
                    case tag if tag == NAMES:
                        checkpoint.names = os.pread(fds[0], struct.unpack("<Q", body)[0], 0)
                    case tag if tag == END:
                        break
                for fd in fds:
                    os.close(fd)
            if self.refuses is not None:
                end.send(bytes([FAILED]) + self.refuses.encode())
                return
            self.checkpoints.append(checkpoint)
            end.send(struct.pack("<BQQ", DONE, len(self.checkpoints), sum(checkpoint.sent)))

    def _want(self, offered: list[tuple[bytes, int]]) -> bytes:
        bitmap = bytearray((len(offered) + 7) // 8)
        asked: set[bytes] = set()
        for index, (name, _) in enumerate(offered):
            if name not in self.chunks and name not in asked:
                bitmap[index // 8] |= 1 << index % 8
                asked.add(name)
        return struct.pack("<BI", WANT, len(offered)) + bytes(bitmap)
