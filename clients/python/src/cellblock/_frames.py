"""The frame: sixteen bytes of header, then meta (a small message), then payload (raw bytes).

The twin of `proto/src/frame.rs`; both are held against `proto/vectors/`. Lengths are checked before
anything is kept, so a header that claims too much costs sixteen bytes and the connection.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ._exceptions import FrameError

MAGIC: Final = 0xCB
FLAG_LAST: Final = 0b01
FLAG_MEMFD: Final = 0b10

META_LIMIT_BYTES: Final = 1 << 20
PAYLOAD_LIMIT_BYTES: Final = 64 << 20

_HEADER: Final = struct.Struct("<BBBBIII")
HEADER_BYTES: Final = _HEADER.size


class Kind(IntEnum):
    """What a frame's meta is. A client sends requests and receives replies; the rest is internal."""

    REQUEST = 1
    REPLY = 2
    COMMAND = 3
    EVENT = 4
    WORKER_COMMAND = 5
    WORKER_EVENT = 6
    ANCHOR_REQUEST = 7
    ANCHOR_REPLY = 8


class Codec(IntEnum):
    """How a frame's meta is written. This client speaks JSON."""

    JSON = 1
    BINCODE = 2


@dataclass(frozen=True, slots=True)
class Header:
    """The first sixteen bytes; lengths in bytes."""

    kind: Kind
    codec: Codec
    flags: int
    request: int
    meta_bytes: int
    payload_bytes: int

    def encode(self) -> bytes:
        """The header's wire form."""
        return _HEADER.pack(
            MAGIC, self.kind, self.codec, self.flags, self.request, self.meta_bytes, self.payload_bytes
        )

    @staticmethod
    def decode(
        data: bytes | bytearray,
        *,
        meta_limit: int = META_LIMIT_BYTES,
        payload_limit: int = PAYLOAD_LIMIT_BYTES,
    ) -> Header:
        """Reads a header from the beginning of `data`; `FrameError` for any byte that is wrong."""
        magic, kind, codec, flags, request, meta_bytes, payload_bytes = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise FrameError(f"not a cellblock frame: first byte is 0x{magic:02x}, not 0x{MAGIC:02x}")
        if kind not in _KINDS:
            raise FrameError(f"unknown frame kind {kind}")
        if codec not in _CODECS:
            raise FrameError(f"unknown codec {codec} (1 is JSON, 2 is bincode)")
        if flags & ~(FLAG_LAST | FLAG_MEMFD):
            raise FrameError(f"unknown frame flags 0x{flags:02x}")
        for part, found, limit in (
            ("meta", meta_bytes, meta_limit),
            ("payload", payload_bytes, payload_limit),
        ):
            if found > limit:
                raise FrameError(f"frame too large: {part} of {found} bytes, the limit is {limit} bytes")
        return Header(_KINDS[kind], _CODECS[codec], flags, request, meta_bytes, payload_bytes)


_KINDS: Final = {kind.value: kind for kind in Kind}
_CODECS: Final = {codec.value: codec for codec in Codec}


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame, its meta still in wire form."""

    kind: Kind
    codec: Codec
    flags: int
    request: int
    meta: bytes
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame's wire form."""
        header = Header(
            self.kind, self.codec, self.flags, self.request, len(self.meta), len(self.payload)
        ).encode()
        return b"".join((header, self.meta, self.payload))

    @property
    def is_last(self) -> bool:
        """Whether this ends the answer to its request."""
        return bool(self.flags & FLAG_LAST)


class FrameReader:
    """Turns a byte stream into frames: feed it what was read, then take frames until it has none."""

    def __init__(
        self, *, meta_limit: int = META_LIMIT_BYTES, payload_limit: int = PAYLOAD_LIMIT_BYTES
    ) -> None:
        self._buffer = bytearray()
        self._header: Header | None = None
        self._meta_limit = meta_limit
        self._payload_limit = payload_limit

    def feed(self, data: bytes | memoryview) -> None:
        """Takes bytes as they came from the socket."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None until more bytes are fed; `FrameError` ends the stream."""
        buffer = self._buffer
        if (header := self._header) is None:
            if len(buffer) < HEADER_BYTES:
                return None
            # Kept, so that a large frame that comes in many reads is parsed once.
            header = self._header = Header.decode(
                buffer, meta_limit=self._meta_limit, payload_limit=self._payload_limit
            )
        meta_end = HEADER_BYTES + header.meta_bytes
        end = meta_end + header.payload_bytes
        if len(buffer) < end:
            return None
        with memoryview(buffer) as view:
            meta, payload = bytes(view[HEADER_BYTES:meta_end]), bytes(view[meta_end:end])
        del buffer[:end]
        self._header = None
        return Frame(header.kind, header.codec, header.flags, header.request, meta, payload)

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that has begun and not ended: after end-of-file, a torn frame."""
        return len(self._buffer)
