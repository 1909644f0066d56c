"""The native library's part of checkpoints: streams, the offer to the store, buffers mapped from packs.

All calls leave the interpreter's lock to others while they work.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

# A buffer below one chunk of the store is read, not mapped: that is as fast, and mappings are counted.
MAPPED_FROM_BYTES = 256 << 10

# Bytes in one piece, whether rows or columns lie together. Part of Python's stable ABI since 3.11.
PYBUF_ANY_CONTIGUOUS = 0x98


class CheckpointError(Exception):
    """What the native side could not do. The text is for people."""


@dataclass(frozen=True)
class Saved:
    """A published checkpoint: its number, and how many bytes it added to the store."""

    id: int
    written: int


@dataclass(frozen=True)
class Extent:
    """A piece of a buffer that lies in one piece in a pack: which pack, where, and how long."""

    pack: int
    offset: int
    length: int


class CheckpointNative:
    """The loaded library. Raises `OSError` when it cannot be loaded; each call, `CheckpointError`."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self._normalise = library.cellblock_checkpoint_normalise
        self._normalise.argtypes = [_Span, ctypes.c_void_p, ctypes.c_void_p]
        self._denormalise = library.cellblock_checkpoint_denormalise
        self._denormalise.argtypes = [_Span, ctypes.c_void_p, ctypes.c_void_p]
        self._free = library.cellblock_checkpoint_free
        self._free.argtypes = [_Owned]
        self._free.restype = None
        self._save = library.cellblock_checkpoint_save
        self._save.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        self._fill = library.cellblock_checkpoint_fill
        self._fill.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
        ]

    def normalise(self, pickle: Any) -> bytes:
        """The normalised form of one pickle (bytes or another buffer), as `save` sends it."""
        with self._turned(self._normalise, pickle) as file:
            return file.read()

    def denormalise(self, normalised: Any) -> NativeFile:
        """The pickle of a normalised form, as a file for `pickle.Unpickler`. Close it when it is read."""
        return self._turned(self._denormalise, normalised)

    def save(self, socket: int, pickle: Any, buffers: Iterable[Any], names: bytes, *, forked: bool) -> Saved:
        """Offers a pickle and its out-of-band buffers to the store, and waits until they are published.

        `buffers` are contiguous, `pickle.PickleBuffer` or else; the socket has the store at its other end.
        With `forked` this process is there for this call only: **pickle and buffers are lost**. Without,
        others may write to the buffers meanwhile.
        """
        saved, reason = _Saved(), _reason()
        with _Views() as views:
            spans = [views.span(buffer) for buffer in buffers]
            array = (_Span * len(spans))(*spans)
            snapshot = _Snapshot(
                socket, forked, views.span(pickle), views.span(names), ctypes.addressof(array), len(spans)
            )
            _check(
                self._save(ctypes.addressof(snapshot), ctypes.addressof(saved), ctypes.addressof(reason)),
                reason,
            )
        return Saved(saved.id, saved.written)

    def map_extents(
        self, packs: Sequence[int], buffers: Sequence[tuple[int, Sequence[Extent]]]
    ) -> list[memoryview]:
        """Maps buffers, each given by its length and its extents in order, from open packs.

        Each result is writable, and its own: a write shows neither in a pack nor in another buffer. Its
        memory is given back when nothing refers to it any more. Packs may be closed then; they must never
        shrink.
        """
        owners = [_reserve(length) for length, _ in buffers]
        regions = (_Region * len(buffers))()
        kept: list[Any] = []
        for region, owner, (length, extents) in zip(regions, owners, buffers, strict=True):
            runs = (_Run * len(extents))(*(_Run(run.pack, run.offset, run.length) for run in extents))
            # An export of the owner: it can neither be resized nor closed as long as `kept` has this.
            memory = (ctypes.c_char * length).from_buffer(owner)
            kept += [runs, memory]
            region.start = ctypes.addressof(memory)
            region.length = length
            region.mappable = isinstance(owner, mmap.mmap)
            region.runs = ctypes.addressof(runs)
            region.run_count = len(extents)
        fds = (ctypes.c_int * len(packs))(*packs)
        reason = _reason()
        _check(
            self._fill(
                ctypes.addressof(fds),
                len(packs),
                ctypes.addressof(regions),
                len(regions),
                ctypes.addressof(reason),
            ),
            reason,
        )
        return [memoryview(owner)[:length] for owner, (length, _) in zip(owners, buffers, strict=True)]

    def _turned(self, turn: Any, stream: Any) -> NativeFile:
        owned, reason = _Owned(), _reason()
        with _Views() as views:
            _check(turn(views.span(stream), ctypes.addressof(owned), ctypes.addressof(reason)), reason)
        return NativeFile(owned, self._free)


class NativeFile:
    """A file over memory of the native library, which is given back by `close` or with the file.

    What is read is copied, so nothing of that memory outlives it.
    """

    def __init__(self, owned: _Owned, free: Any) -> None:
        self._owned = owned
        self._free = free
        self._position = 0
        self._is_open = True

    def __len__(self) -> int:
        return int(self._owned.length)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, or all."""
        start, size = self._take(size)
        return ctypes.string_at(start, size)

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as there are bytes; returns how many."""
        view = memoryview(buffer).cast("B")
        start, size = self._take(len(view))
        ctypes.memmove((ctypes.c_char * size).from_buffer(view), start, size)
        return size

    def readline(self) -> bytes:
        """To the end of the line, and with it."""
        line = bytearray()
        while piece := self.read(256):
            line += piece
            end = line.find(b"\n") + 1
            if end:
                self._position -= len(line) - end
                return bytes(line[:end])
        return bytes(line)

    def close(self) -> None:
        """Gives the memory back."""
        if self._is_open:
            self._is_open = False
            self._free(self._owned)

    def __enter__(self) -> NativeFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _take(self, size: int) -> tuple[int, int]:
        """Address and length of what is read next."""
        if not self._is_open:
            raise ValueError("read of a closed file")
        left = len(self) - self._position
        taken = left if size < 0 else min(size, left)
        start = self._owned.start + self._position
        self._position += taken
        return start, taken


def _reserve(length: int) -> mmap.mmap | bytearray:
    """Memory for one buffer.

    For a long one, an anonymous mapping: the native side puts others over it, and the mmap object unmaps them
    all when it is deallocated. A finalizer would do so too early where a cycle is collected: before the
    `__del__` of an object in it, which may still look at its array.
    """
    if length < MAPPED_FROM_BYTES:
        return bytearray(length)
    return mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class _Views:
    """Keeps the addresses of buffers valid, those of read-only ones too, which ctypes does not give."""

    def __init__(self) -> None:
        self._views: list[_View] = []

    def span(self, exporter: Any) -> _Span:
        view = _View()
        # ctypes raises what the call has set.
        ctypes.pythonapi.PyObject_GetBuffer(
            ctypes.py_object(exporter), ctypes.byref(view), PYBUF_ANY_CONTIGUOUS
        )
        self._views.append(view)
        return _Span(view.buf, view.len)

    def __enter__(self) -> _Views:
        return self

    def __exit__(self, *exc: object) -> None:
        for view in self._views:
            ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))


def _reason() -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(4096)


def _check(code: int, reason: ctypes.Array[ctypes.c_char]) -> None:
    if code != 0:
        raise CheckpointError(reason.value.decode())


class _View(ctypes.Structure):
    """`Py_buffer`, which is part of Python's stable ABI since 3.11."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]
    buf: int | None
    len: int


# Twins of the structures in native/src/checkpoint/.


class _Span(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Owned(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("length", ctypes.c_size_t), ("capacity", ctypes.c_size_t)]
    start: int
    length: int


class _Snapshot(ctypes.Structure):
    _fields_ = [
        ("socket", ctypes.c_int),
        ("forked", ctypes.c_int),
        ("stream", _Span),
        ("names", _Span),
        ("buffers", ctypes.c_void_p),
        ("buffer_count", ctypes.c_size_t),
    ]


class _Saved(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint64), ("written", ctypes.c_uint64)]
    id: int
    written: int


class _Run(ctypes.Structure):
    _fields_ = [("pack", ctypes.c_uint64), ("offset", ctypes.c_uint64), ("length", ctypes.c_uint64)]


class _Region(ctypes.Structure):
    _fields_ = [
        ("start", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("mappable", ctypes.c_int),
        ("runs", ctypes.c_void_p),
        ("run_count", ctypes.c_size_t),
    ]
    start: int
    length: int
    mappable: int
    runs: int
    run_count: int
