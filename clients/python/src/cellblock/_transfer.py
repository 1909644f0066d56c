"""Exported checkpoints on this side: where they are written to and read from, and in which parts."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple, TypeAlias

Target: TypeAlias = str | os.PathLike[str] | IO[bytes]
Source: TypeAlias = str | os.PathLike[str] | IO[bytes]

PART_BYTES: Final = 1 << 20
"""What one request carries."""


class Part(NamedTuple):
    """A part of a file; `last` when nothing follows it."""

    offset: int
    data: bytes
    last: bool


@contextlib.contextmanager
def written_to(target: Target) -> Iterator[IO[bytes]]:
    """A file to write; under a path it appears when it is whole, in the place of what was there."""
    if not isinstance(target, (str, os.PathLike)):
        yield target
        return
    path = Path(target)
    unfinished = path.with_name(f".{uuid.uuid4().hex}.unfinished")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def parts_from(source: Source) -> Iterator[Iterator[Part]]:
    """The parts of a file; an empty one has one."""
    if isinstance(source, (str, os.PathLike)):
        with Path(source).open("rb") as file:
            yield _parts(file)
    else:
        yield _parts(source)


def _parts(file: IO[bytes]) -> Iterator[Part]:
    offset, data = 0, _whole_part(file)
    while True:
        following = _whole_part(file)
        yield Part(offset, data, last=not following)
        if not following:
            return
        offset, data = offset + len(data), following


def _whole_part(file: IO[bytes]) -> bytes:
    """A part that is shorter only at the end: what is read from a pipe comes in any pieces."""
    data = bytearray()
    while len(data) < PART_BYTES and (piece := file.read(PART_BYTES - len(data))):
        data += piece
    return bytes(data)
