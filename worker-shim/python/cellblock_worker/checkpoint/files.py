"""Open files: saved as path, mode and position, and opened again where they can be.

Nothing is flushed while pickling. The process that saves may be a copy of the user's, and what it wrote would
be written twice. So variables that are files are flushed before, by `settle`. What other writers hold back is
lost, as it is in a crash: they stand where they have written to. Descriptors of regular files must be open.
"""

from __future__ import annotations

import _io
import contextlib
import os
import stat
from typing import TYPE_CHECKING, Any

from .tombstone import lose

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reduction


def settle(namespace: dict[str, Any]) -> None:
    """Has the variables that are files write what they hold back. In the user's process, before a fork."""
    for value in list(namespace.values()):
        if type(value) in (_io.TextIOWrapper, _io.BufferedWriter, _io.BufferedRandom):
            with contextlib.suppress(Exception):  # whoever writes next is told
                if not value.closed and stat.S_ISREG(os.fstat(value.fileno()).st_mode):
                    value.flush()


def _reduce(pickler: GraphPickler, file: Any) -> Reduction:
    if file.closed:
        return pickler.leave_out(file, "a closed file")
    if type(file.name) is not str or not os.path.lexists(file.name) or not file.seekable():
        return pickler.leave_out(file, "an open file without a path to open again")
    text: dict[str, Any] = {}
    mode = file.mode
    if isinstance(file, _io.TextIOWrapper):
        text = {"encoding": file.encoding, "errors": file.errors, "line_buffering": file.line_buffering}
        if file.readable() and file.writable():
            return pickler.leave_out(
                file, "a text file open to read and write, whose position only a flush tells"
            )
        # A reader says what it has decoded; to ask a writer would flush it.
        position = file.tell() if file.readable() else _written(file)
    else:
        position = _written(file) if isinstance(file, _io.BufferedWriter) else file.tell()
    if isinstance(file, _io.FileIO):
        text = {"raw": True}
    elif not text:
        mode = file.raw.mode if isinstance(file.raw, _io.FileIO) else mode
    return reopen, (os.path.abspath(file.name), mode, position, text)  # noqa: PTH100 - a link stays one


def _written(file: Any) -> int:
    """Where the file itself stands: behind it would be a gap where nothing was ever written."""
    return os.lseek(file.fileno(), 0, os.SEEK_CUR)


def reopen(path: str, mode: str, position: int, text: dict[str, Any]) -> Any:
    """The file at its position. It is neither made nor emptied, whatever its mode says."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags & ~(os.O_TRUNC | os.O_CREAT | os.O_EXCL))

    options = dict(text)
    if options.pop("raw", False):
        options["buffering"] = 0
    lines = options.pop("line_buffering", False)
    try:
        file: Any = open(path, mode, opener=opener, **options)  # noqa: SIM115 - it is the user's
    except OSError as error:
        return lose("file", f"`{path}` cannot be opened again: {error.strerror}")
    if lines:
        file.reconfigure(line_buffering=True)
    file.seek(position)
    return file


REDUCERS: dict[Any, Any] = {
    _io.TextIOWrapper: _reduce,
    _io.BufferedReader: _reduce,
    _io.BufferedWriter: _reduce,
    _io.BufferedRandom: _reduce,
    _io.FileIO: _reduce,
}
