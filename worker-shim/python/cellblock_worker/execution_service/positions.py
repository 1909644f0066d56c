"""Where a place in the Python of a cell stands in the cell as it was written.

IPython's transform drops leading blank lines, takes indentation and prompts from the beginning of lines, and
puts one line of Python in the place of each magic. The parser counts columns in bytes of UTF-8. Who reads a
report, or edits the source, needs lines and characters of the original.
"""

from __future__ import annotations

import re
from functools import cached_property
from itertools import accumulate

# What Python ends a line at; `str.splitlines` knows more.
_NEWLINE = re.compile(r"\r\n|\r|\n")


def lines_of(text: str) -> list[str]:
    """The lines without their ends."""
    return _NEWLINE.split(text)


class Positions:
    """Maps places of the transformed cell to the written one."""

    def __init__(self, written: str, transformed: str) -> None:
        self.written = written
        self.python = transformed

    @property
    def is_verbatim(self) -> bool:
        """Whether the cell is Python as it was written."""
        return self.written.rstrip("\n") == self.python.rstrip("\n")

    def place(self, line: int, byte_column: int) -> tuple[int, int | None]:
        """Line and column of a place, both from 1; no column in a line that the transform has made."""
        at, shift = self._origin(line)
        if shift is None:
            return at + 1, None
        return at + 1, shift + _characters(self._python_line(line), byte_column) + 1

    def offset(self, line: int, byte_column: int) -> int | None:
        """The place as an index into the written text; None in a line that the transform has made."""
        at, shift = self._origin(line)
        if shift is None:
            return None
        return self._starts[at] + shift + _characters(self._python_line(line), byte_column)

    def written_line(self, line: int) -> int:
        """The number of the written line that a line of the Python came from."""
        return self._origin(line)[0] + 1

    def byte_column(self, line: int, character: int) -> int:
        """The column that the parser would give to a character of a line."""
        return len(self._python_line(line)[:character].encode("utf-8", "surrogatepass"))

    def _origin(self, line: int) -> tuple[int, int | None]:
        origins = self._origins
        if origins is None:
            return min(line, self._count) - 1, 0
        return origins[min(line, len(origins)) - 1]

    def _python_line(self, line: int) -> str:
        return self._python_lines[min(line, len(self._python_lines)) - 1]

    @cached_property
    def _python_lines(self) -> list[str]:
        return lines_of(self.python)

    @cached_property
    def _count(self) -> int:
        return len(lines_of(self.written.rstrip("\r\n")))

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(line) for line in _kept_lines(self.written))]

    @cached_property
    def _origins(self) -> list[tuple[int, int | None]] | None:
        return None if self.is_verbatim else _aligned(lines_of(self.written), self._python_lines)


def _aligned(written: list[str], python: list[str]) -> list[tuple[int, int | None]]:
    """For each line of Python the index of its written line, and the characters taken from its beginning."""
    found: list[tuple[int, int | None]] = []
    at, last = 0, len(written) - 1
    while at < last and not written[at].strip() and python[0].strip():
        at += 1
    for line in python:
        at = min(at, last)
        source = written[at]
        if source.endswith(line) or not (source.strip() or line.strip()):
            found.append((at, max(len(source) - len(line), 0)))
        else:
            found.append((at, None))
            # A magic that goes on over several lines becomes one.
            while at < last and written[at].endswith("\\"):
                at += 1
        at += 1
    return found


def _kept_lines(text: str) -> list[str]:
    ends = [match.end() for match in _NEWLINE.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _characters(line: str, byte_column: int) -> int:
    if line.isascii():
        return byte_column
    return len(line.encode("utf-8", "surrogatepass")[:byte_column].decode("utf-8", "replace"))
