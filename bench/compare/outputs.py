"""What an output is, apart from its text: its type, the mime types it comes in, and what they hold.

An output's `Form` is its type and the *set* of its mime types: a front end chooses by them, so a `text/html`
that is missing is a table shown as typewriter text, and one too many may be shown in place of the
right one. Streams have no form: how one is cut says when it was flushed, not what was put out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any, Final

from .volatile import settle

_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
# The signature, the length and the name of the first chunk; then width and height.
_PNG_SIZE_AT: Final = 16


@dataclass(frozen=True, slots=True)
class Form:
    """The type of an output and the mime types it comes in."""

    kind: str
    mimes: frozenset[str]

    def __str__(self) -> str:
        return " ".join([self.kind, *sorted(self.mimes)])


def forms_of(outputs: Sequence[dict[str, Any]]) -> tuple[Form, ...]:
    """Those of a cell, in their order."""
    return tuple(
        Form(output["output_type"], frozenset(output.get("data", ())))
        for output in outputs
        if output["output_type"] != "stream"
    )


def shared(left: Sequence[Form], right: Sequence[Form]) -> list[Form]:
    """The forms that both sides have, in one order."""
    blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return [form for block in blocks for form in left[block.a : block.a + block.size]]


def explain(left: Sequence[Form], right: Sequence[Form]) -> list[str]:
    """Output by output, how the right side differs from the left one; in words.

    An output that is missing or too much is that, and not a difference in all that follow. Outputs go by
    their number on the left side; one that is too much has only a number on the right.
    """
    found: list[tuple[int, str]] = []
    blocks = SequenceMatcher(None, left, right, autojunk=False).get_opcodes()
    for _, left_from, left_to, right_from, right_to in blocks:
        one, other = left[left_from:left_to], right[right_from:right_to]
        both = min(len(one), len(other))
        for place in range(both):
            if one[place] != other[place]:
                found.append((left_from + place + 1, _compare(one[place], other[place])))
        found += [(left_from + both + place + 1, f"missing: {form}") for place, form in enumerate(one[both:])]
        found += [
            (right_from + both + place + 1, f"too much: {form}") for place, form in enumerate(other[both:])
        ]
    return [
        f"{_outputs([place for place, _ in group])}: {words}"
        for words, group in ((words, list(group)) for words, group in groupby(found, lambda item: item[1]))
    ]


def contents_of(outputs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the representations other than `text/plain` hold, as a line for each."""
    for output in outputs:
        metadata = output.get("metadata") or {}
        for mime, value in sorted(output.get("data", {}).items()):
            if mime != "text/plain":
                yield f"{mime}: {_content(mime, value)}"
        if metadata:
            yield f"metadata: {json.dumps(metadata, sort_keys=True)}"


def _outputs(places: Sequence[int]) -> str:
    """Many alike, as of a progress bar, are said once."""
    if len(places) == 1:
        return f"output {places[0]}"
    return f"outputs {places[0]} to {places[-1]} ({len(places)} of them)"


def _compare(left: Form, right: Form) -> str:
    parts = []
    if left.kind != right.kind:
        parts.append(f"{right.kind} instead of {left.kind}")
    if lacking := sorted(left.mimes - right.mimes):
        parts.append(f"lacks {' '.join(lacking)}")
    if more := sorted(right.mimes - left.mimes):
        parts.append(f"has {' '.join(more)} besides")
    return ", ".join(parts)


def _content(mime: str, value: Any) -> str:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        # A notebook's file may hold a text as a list of lines.
        value = "".join(value)
    if not isinstance(value, str):
        return settle(json.dumps(value, sort_keys=True))
    if mime.startswith("image/") and mime != "image/svg+xml":
        return _picture("".join(value.split()))
    return repr(settle(value))


def _picture(encoded: str) -> str:
    """Its size, for people, and its bytes: the same libraries draw the same picture."""
    digest = hashlib.sha256(encoded.encode()).hexdigest()[:16]
    try:
        start = base64.b64decode(encoded[:32] + "==")
    except ValueError:
        # Whatever a cell calls an image.
        start = b""
    if not start.startswith(_PNG_START) or len(start) < _PNG_SIZE_AT + 8:
        return digest
    width, height = struct.unpack_from(">II", start, _PNG_SIZE_AT)
    return f"{width} × {height} pixels, {digest}"
