"""The grammar of a DataFrame that pandas has printed: one block of columns, with or without the index.

All lines of a block have one length. Column names and cells are right-aligned, the index is at the left edge;
its names, if it has some, stand alone on the line below the header. A block whose header ends in a backslash
goes on in another one. Only layout is looked at here; whether that makes a table is the caller's to say.

Deliberately absent: columns of several levels, whose upper header lines cannot be told from other text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

WIDTH: Final = 10_000
"""Characters of a line; a longer one is none of a table that anybody reads."""
ROWS: Final = 1_000
"""Rows that are read; those after them are only counted."""

_WORD: Final = re.compile(r"\S+")
_LETTER: Final = re.compile(r"[^\W\d_]")
_INTEGER_LABEL: Final = re.compile(r"(?:-?[0-9]+|\.\.\.?)(?= )")
_NUMBER: Final = re.compile(
    r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,3})?|-?inf|NaN|NaT|<NA>"
)
_LABELLED: Final = re.compile(r"[0-9]+ +\S.*")
# What stands only one space behind the column before it: most values have a space for a sign.
_TIGHT: Final = re.compile(r"-|[0-9]{4}-[0-9]{2}|[0-9]+ days")


def is_number(text: str) -> bool:
    """Whether a cell may be one of a numeric column."""
    return _NUMBER.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Block:
    """Columns side by side, as text. `labels` is None where the index was not printed."""

    names: list[str]
    labels: list[str] | None
    rows: list[list[str]]
    rows_in_all: int
    index_name: str
    is_continued: bool
    # Only a frame that is folded leaves spaces behind its header.
    has_margin: bool

    def continues(self, first: Block) -> bool:
        """Whether it has the rows of a frame's first block."""
        return (self.labels, self.rows_in_all, self.index_name) == (
            first.labels,
            first.rows_in_all,
            first.index_name,
        )


class _Word(NamedTuple):
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Header:
    at: int
    text: str
    words: list[_Word]
    length: int
    is_continued: bool
    has_margin: bool


class _Rows(NamedTuple):
    lines: list[str]
    total: int
    end: int


class _Unsure(Exception):
    """No block, and none of the lines before `end` begins another one."""

    def __init__(self, end: int) -> None:
        super().__init__()
        self.end = end


def read_block(lines: Sequence[str], at: int, floor: int) -> tuple[Block | None, int]:
    """The block whose header is the line `at`, and the line to go on with. Lines before `floor` are taken."""
    header = _header(lines, at)
    if header is None:
        return None, at + 1
    end = at + 1
    for read in (_with_index, _without_index):
        try:
            return read(header, lines, floor)
        except _Unsure as unsure:
            end = max(end, unsure.end)
    return None, end


def _header(lines: Sequence[str], at: int) -> _Header | None:
    line = lines[at]
    if not 3 <= len(line) <= WIDTH or at + 1 >= len(lines) or len(lines[at + 1]) != len(line) or "\t" in line:
        return None
    text = line.rstrip()
    if is_continued := text.endswith("  \\"):
        text = text[:-1].rstrip()
    words = [_Word(*match.span()) for match in _WORD.finditer(text)]
    return _Header(at, text, words, len(line), is_continued, len(text) < len(line)) if words else None


# With the index.


def _with_index(header: _Header, lines: Sequence[str], floor: int) -> tuple[Block, int]:
    first = header.at + 1
    if lines[first].startswith(" "):
        raise _Unsure(first)
    words, name = header.words, lines[first].rstrip()
    # The columns have a name, which stands above the index.
    has_name = not header.text.startswith(" ")
    if has_name:
        below = [word for word in words if word.start > len(name)]
        is_named, words = bool(below), below or words[1:]
        if not is_named and not lines[first].startswith("0 "):
            raise _Unsure(first)
    else:
        is_named = len(name) < words[0].start and not _INTEGER_LABEL.match(lines[first])
    if not words:
        raise _Unsure(first)
    name = name if is_named else ""
    lasts = _certain_ends(words)
    rows = _indexed_rows(header, lines, first + is_named, words, lasts)
    width = _index_width(rows.lines, len(name), words)
    labels = [row[:width].strip() for row in rows.lines] if width else []
    if not all(labels) or not labels or (has_name and not is_named and not _are_positions(labels)):
        raise _Unsure(rows.end)
    groups = _columns(rows, words, lasts)
    names = [header.text[group[0].start : group[-1].end] for group in groups]
    edges = [width, *(group[-1].end for group in groups)]
    cells = _cells(rows.lines, edges)
    if _is_lower_level(lines, header, floor, edges, has_name=has_name) or _hides_column(names, cells):
        raise _Unsure(rows.end)
    block = Block(names, labels, cells, rows.total, name, header.is_continued, header.has_margin)
    return block, rows.end


def _indexed_rows(
    header: _Header, lines: Sequence[str], start: int, words: list[_Word], lasts: list[_Word]
) -> _Rows:
    """The rows of a table; text after it is told from them, or all of it is in doubt."""
    found: list[str] = []
    length, first_column = header.length, words[0].start
    has_integers = True
    at = start
    while at < len(lines) and len(line := lines[at]) == length and not line.isspace():
        if line == lines[header.at]:
            # The same frame again, or another part of it.
            break
        if line[0] == " " and length - len(line.lstrip()) >= first_column:
            # Another header, or a row without a label.
            if not _begins_flush(lines, at + 1, length):
                raise _Unsure(at)
            break
        is_integer = _INTEGER_LABEL.match(line) is not None
        if found and not is_integer and len(line.rstrip()) < first_column:
            # Empty cells, or the names of another index, below another header.
            raise _Unsure(at)
        if not _fits(line, lasts):
            # Text of the same length, as far as the lines before it are surely rows.
            if found and (not is_integer if has_integers else len(found) > 1):
                break
            raise _Unsure(max(at, start))
        has_integers = has_integers and is_integer
        if len(found) < ROWS:
            found.append(line)
        at += 1
    if not found or found[0].startswith(" "):
        raise _Unsure(start)
    return _Rows(found, at - start, at)


def _begins_flush(lines: Sequence[str], at: int, length: int) -> bool:
    return at < len(lines) and len(lines[at]) == length and not lines[at].startswith(" ")


def _index_width(rows: list[str], at_least: int, words: list[_Word]) -> int:
    """Where the index ends: at a gap that goes down all rows. 0 if there is none that is certain."""
    at, until = max(at_least, 1), words[0].end
    narrow: list[int] = []
    while at < words[0].start:
        if any(row[at] != " " for row in rows):
            at += 1
            continue
        after = at + 1
        while after < until and all(row[after] == " " for row in rows):
            after += 1
        if after - at > 1 or all(row[after] == " " or _TIGHT.match(row, after) for row in rows):
            return at
        narrow.append(at)
        at = after
    # Numbers in a format of the user's.
    if len(narrow) == 1 and all(_INTEGER_LABEL.match(row) for row in rows):
        return narrow[0]
    return 0


# Without it.


def _without_index(header: _Header, lines: Sequence[str], floor: int) -> tuple[Block, int]:
    first = header.at + 1
    words = header.words
    texts = [header.text[word.start : word.end] for word in words]
    if header.has_margin or len(words) < 2 or any(is_number(text) for text in texts):
        raise _Unsure(first)
    lasts = _certain_ends(words)
    rows = _bare_rows(lines, first, header.length, lasts)
    groups = _columns(rows, words, lasts)
    names = [header.text[group[0].start : group[-1].end] for group in groups]
    edges = [0, *(group[-1].end for group in groups)]
    cells = _cells(rows.lines, edges)
    if (
        len(groups) < 2
        or not all(_LETTER.search(name) for name in names)
        # An index after all, of a table that somebody has indented.
        or all(_LABELLED.fullmatch(row[0]) for row in cells)
        or (len(cells) == 1 and not all(map(is_number, cells[0])))
        or any("  " in cell for row in cells for cell in row)
        or _is_lower_level(lines, header, floor, edges, has_name=False)
    ):
        raise _Unsure(rows.end)
    return Block(names, None, cells, rows.total, "", is_continued=False, has_margin=False), rows.end


def _bare_rows(lines: Sequence[str], start: int, length: int, lasts: list[_Word]) -> _Rows:
    """Rows of which some column has numbers throughout: nothing else tells them from text."""
    found: list[str] = []
    edges = [0, *(word.end for word in lasts)]
    numeric = set(range(len(lasts)))
    at = start
    while at < len(lines) and len(line := lines[at]) == length and not line.isspace():
        cells = [line[left:right].strip() for left, right in pairwise(edges)]
        still = {number for number in numeric if is_number(cells[number])}
        if not (still and all(cells) and _fits(line, lasts)):
            # Text, another table like this one, or a row that shows that this is no table.
            if line != lines[start - 1] and (
                _fits(line, lasts) or any(is_number(word) for word in line.split())
            ):
                raise _Unsure(at)
            break
        numeric = still
        if len(found) < ROWS:
            found.append(line)
        at += 1
    if not found:
        raise _Unsure(start)
    return _Rows(found, at - start, at)


# Columns.


def _certain_ends(words: list[_Word]) -> list[_Word]:
    """The words that end a column name: within a name there is one space only."""
    return [
        word
        for word, following in zip(words, [*words[1:], None], strict=True)
        if following is None or following.start - word.end > 1
    ]


def _fits(row: str, lasts: list[_Word]) -> bool:
    """Whether a cell, or an empty one, ends below each of these words, and nothing comes after the last."""
    for start, end in lasts:
        if row[end - 1] == " ":
            if not row[start:end].isspace():
                return False
        elif row[end : end + 1].strip():
            return False
    return not row[lasts[-1].end :].strip()


def _columns(rows: _Rows, words: list[_Word], lasts: list[_Word]) -> list[list[_Word]]:
    """The words of each column name. A name of texts may stand one space behind the one before it."""
    certain = set(lasts)
    found: list[list[_Word]] = [[]]
    for word in words:
        found[-1].append(word)
        if word in certain or _ends_column(rows, word):
            found.append([])
    return found[:-1]


def _ends_column(rows: _Rows, word: _Word) -> bool:
    """Whether cells end below a word of the header that may as well be the first of two in one name."""
    start, end = word
    full = [row for row in rows.lines if row[end - 1] != " "]
    if not full or any(row[end] != " " for row in full):
        return False
    if all(row[end + 1] == " " or _TIGHT.match(row, end + 1) for row in full) and all(
        row[end - 1] != " " or row[start : end + 1].isspace() for row in rows.lines
    ):
        return True
    # Two words below two words: one column or two.
    raise _Unsure(rows.end)


def _cells(rows: list[str], edges: list[int]) -> list[list[str]]:
    return [[row[left:right].strip() for left, right in pairwise(edges)] for row in rows]


def _are_positions(labels: list[str]) -> bool:
    """Whether they count from 0: nothing else tells a header at the left edge from text."""
    return len(labels) > 1 and all(label == str(number) for number, label in enumerate(labels))


def _hides_column(names: list[str], rows: list[list[str]]) -> bool:
    """Whether some column is likely two: of which one has no name, or whose names cannot be told apart."""
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        wide = ["  " in cell for cell in column]
        if any(wide) if " " in name else all(wide):
            return True
    return False


def _is_lower_level(
    lines: Sequence[str], header: _Header, floor: int, edges: list[int], *, has_name: bool
) -> bool:
    """Whether the line above the header looks like another level of column names."""
    at = header.at - 1
    if at < floor or len(lines[at]) != header.length:
        return False
    above, width = lines[at], edges[0]
    if above[:width].strip() and not has_name:
        return False
    ends = [match.end() for match in _WORD.finditer(above) if match.end() > width]
    return bool(ends) and set(ends) <= set(edges)
