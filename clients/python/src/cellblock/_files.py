"""Files of a workspace: their names in messages, what is told of them, and how large ones are parted.

A path is relative to the workspace, `/` between its names. Names are text: bytes that are no UTF-8
and control characters stand as `\\xNN`, a backslash as `\\\\`; the twin of `proto/src/path.rs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from ._exceptions import ProtocolError, TooLarge
from ._fields import Fields, unknown

FileKind: TypeAlias = Literal["file", "folder", "link", "special"]

PART_BYTES: Final = 4 << 20
"""What one request carries; cellblockd takes 8 MiB at most."""

READ_LIMIT_BYTES: Final = 256 << 20
"""What `files.read` takes into memory unless it is told otherwise: sizes are the notebook's to claim."""

_ESCAPE: Final = re.compile(rb"\\(?:\\|x([0-9a-fA-F]{2}))")


def escape_name(name: bytes) -> str:
    """A name of a file as messages and `FileInfo.name` have it."""
    # With surrogateescape each byte that is no UTF-8 is a lone surrogate, and nothing else is.
    return "".join(_escaped(character) for character in name.decode(errors="surrogateescape"))


def unescape_name(text: str) -> bytes:
    """The bytes of a name; a `ValueError` when it is not written as `escape_name` writes it."""
    data = text.encode()
    if b"\\" in _ESCAPE.sub(b"", data):
        raise ValueError(f"{text!r} has a backslash that is no escape: write `\\\\`, or `\\xNN` for a byte")
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"\\", data)


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if (code := ord(character)) < 0x20 or 0x7F <= code < 0xA0 or 0xDC80 <= code <= 0xDCFF:
        return "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))
    return character


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A name in a folder. `bytes` is 0 for what is no file; a `link` is never followed, and a
    `special` (a pipe, a socket, a device) never opened."""

    name: str
    kind: FileKind
    bytes: int
    modified_ms: int
    """When it was last changed, in milliseconds since 1970; the notebook sets it as it likes."""

    @property
    def is_file(self) -> bool:
        """Whether it can be read."""
        return self.kind == "file"

    @property
    def is_folder(self) -> bool:
        """Whether it can be listed."""
        return self.kind == "folder"


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in a folder, sorted. Of very many the first; then `truncated` is true."""

    files: tuple[FileInfo, ...]
    truncated: bool

    def __iter__(self) -> Iterator[FileInfo]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file, and how large the whole was when it was read."""

    data: bytes
    file_bytes: int


class Reading:
    """A file as far as it has been read: as long as it was at first, or shorter if it has become so."""

    def __init__(self, path: str, limit_bytes: int) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._size: int | None = None
        self._parts = bytearray()

    @property
    def offset(self) -> int:
        """Where the next part begins."""
        return len(self._parts)

    def take(self, part: FilePart) -> bool:
        """Takes the next part; whether there is one more."""
        if self._size is None:
            self._size = part.file_bytes
            if self._size > self._limit_bytes:
                raise TooLarge(
                    f"workspace file `{self._path}` has {self._size} bytes, above the {self._limit_bytes} of "
                    "`limit_bytes`: raise it, or read it by `read_part`"
                )
        self._parts += part.data[: self._size - len(self._parts)]
        return bool(part.data) and len(self._parts) < self._size

    def content(self) -> bytes:
        """All of it."""
        return bytes(self._parts)


def parts_of(data: bytes | str) -> Iterator[tuple[int, bytes]]:
    """Offsets and parts to write; an empty file has one."""
    content = data.encode() if isinstance(data, str) else bytes(data)
    for offset in range(0, len(content) or 1, PART_BYTES):
        yield offset, content[offset : offset + PART_BYTES]


def parse_listing(fields: Fields) -> Listing:
    """The answer to `list_files`."""
    return Listing(fields.structs("files", _parse_file), fields.flag("truncated"))


def parse_part(fields: Fields, payload: bytes) -> FilePart:
    """The answer to `read_file`."""
    return FilePart(payload, fields.integer("bytes"))


def _parse_file(fields: Fields) -> FileInfo:
    kind = fields.text("kind")
    if kind not in ("file", "folder", "link", "special"):
        raise unknown("kind of file", kind)
    size = fields.integer("bytes")
    if size < 0:
        raise ProtocolError("a file of less than no bytes")
    return FileInfo(fields.text("name"), cast(FileKind, kind), size, fields.integer("modified_ms"))
