"""One of a cell's two texts: decoded as it comes, kept up to a limit, its pieces findable afterwards.

What is above the limit is missing in the middle, and a mark there says how much. Carriage returns stay as
they came: what a progress bar drew over is for whoever shows it.
"""

from __future__ import annotations

import codecs
from collections import deque
from typing import Final

LIMIT: Final = 1_000_000
"""Characters of a text that a result has at most, the mark included."""
_HEAD: Final = LIMIT // 2
_MARK_ROOM: Final = 100


class CapturedText:
    """Grows by `write` and `remark`; positions count characters from its beginning, missing ones too."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._head: list[str] = []
        self._head_length = 0
        self._tail: deque[str] = deque()
        self._tail_length = 0
        self.length = 0

    def write(self, data: bytes) -> None:
        """Takes what the program wrote; a character may come in two pieces."""
        self._append(self._decoder.decode(data))

    def remark(self, sentence: str) -> None:
        """Says something about the text, in it, where it has come to."""
        self.finish()
        start = "" if not self.length or self._last().endswith("\n") else "\n"
        self._append(f"{start}… [{sentence}] …\n")

    def finish(self) -> None:
        """Nothing completes the character that the text ends within."""
        self._append(self._decoder.decode(b"", final=True))
        self._decoder.reset()

    def text(self) -> str:
        """The text as it is shown."""
        head, tail = "".join(self._head), "".join(self._tail)
        if self.length <= LIMIT:
            return head + tail
        return head + self._mark() + tail[-self._shown_tail :]

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where in `text()` a piece stands; the mark belongs to the piece that is cut first."""
        if self.length <= LIMIT:
            return start, end
        after_mark = _HEAD + len(self._mark())
        tail_start = self.length - self._shown_tail

        def shown(position: int) -> int:
            return after_mark if position < tail_start else position - tail_start + after_mark

        return (start if start <= _HEAD else shown(start)), (end if end <= _HEAD else shown(end))

    @property
    def _shown_tail(self) -> int:
        return LIMIT - _HEAD - _MARK_ROOM

    def _mark(self) -> str:
        missing = self.length - _HEAD - self._shown_tail
        return f"\n… [{missing} of {self.length} characters are left out here] …\n"

    def _last(self) -> str:
        return self._tail[-1] if self._tail else self._head[-1]

    def _append(self, piece: str) -> None:
        if not piece:
            return
        self.length += len(piece)
        if (room := _HEAD - self._head_length) > 0:
            self._head.append(piece[:room])
            self._head_length += len(self._head[-1])
            piece = piece[room:]
        if piece:
            self._tail.append(piece)
            self._tail_length += len(piece)
        while self._tail and self._tail_length - len(self._tail[0]) >= LIMIT - _HEAD:
            self._tail_length -= len(self._tail.popleft())
