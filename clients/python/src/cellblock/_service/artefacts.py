"""What was displayed, as entries of an `ExecutionResult`: one bundle makes one entry of one of its lists.

The plug-in's bundles say in their own mime types what they are. Others come from libraries that display
through IPython; of their representations the one is taken that a page shows best.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from cellblock._messages import Bundle

from . import plain
from .plain import Malformed
from .tables import display_entry, library_entry, table_entry

TABLE: Final = "application/vnd.cellblock.table+json"
DISPLAY: Final = "application/vnd.cellblock.display+json"
FLOATS: Final = "application/vnd.cellblock.floats"
"""The columns of a table that its JSON has null for, as little-endian doubles."""
PLOTLY: Final = "application/vnd.plotly.v1+json"

# Good enough before the JSON is read, which is done at the end or never.
_VARIABLE: Final = re.compile(rb'"source": ?"variable"')

Place: TypeAlias = Literal["table", "display", "variable", "plot", "interactive"]


@dataclass(frozen=True, slots=True)
class Artefact:
    """An entry and the list it belongs in; `tables` is three of them, one after the other."""

    place: Place
    entry: dict[str, Any]


class Budget:
    """How much JSON and floats of one Execution are read: in memory they take many times their size."""

    LIMIT_BYTES: Final = 32 << 20

    def __init__(self) -> None:
        self._left = self.LIMIT_BYTES

    def spend(self, data: bytes) -> bytes:
        """A part, or `Malformed` when it is one too many."""
        if len(data) > self._left:
            raise Malformed(f"with its {len(data)} bytes the cell's data are above {self.LIMIT_BYTES} bytes")
        self._left -= len(data)
        return data

    def parse(self, data: bytes) -> plain.Plain:
        """A part that is JSON."""
        return plain.parse(self.spend(data))


def artefact_of(bundle: Bundle, budget: Budget) -> Artefact:
    """What a bundle shows; `Malformed` when nothing of it can be shown."""
    for mime, make in _MAKERS:
        if mime in bundle:
            return make(bundle, mime, budget)
    raise Malformed(f"none of its representations can be shown: {', '.join(bundle.parts)[:200] or 'none'}")


def is_captured(bundle: Bundle) -> bool:
    """Whether the plug-in found it by itself at the cell's end, rather than the code displaying it."""
    if TABLE in bundle:
        return _VARIABLE.search(bundle[TABLE]) is not None
    return _caption(bundle)[1] == "auto-captured"


def _table(bundle: Bundle, mime: str, budget: Budget) -> Artefact:
    floats = budget.spend(bundle[FLOATS]) if FLOATS in bundle else b""
    entry = table_entry(budget.parse(bundle[mime]).value, floats, _text(bundle, "text/html"))
    return Artefact("table" if entry["source"] == "display" else "variable", entry)


def _display(bundle: Bundle, mime: str, budget: Budget) -> Artefact:
    return Artefact("display", display_entry(budget.parse(bundle[mime]).value))


def _plotly(bundle: Bundle, mime: str, budget: Budget) -> Artefact:
    figure, is_verbatim = budget.parse(bundle[mime])
    if type(figure) is not dict or type(figure.get("data")) is not list:
        raise Malformed("a Plotly figure without a list of data")
    name, source, label = _caption(bundle)
    text = _text(bundle, mime) if is_verbatim else plain.dump(figure)
    entry = {"name": name or "figure", "figure": figure, "json": text, "source": source}
    return Artefact("interactive", entry if label is None else entry | {"label": label})


def _image(bundle: Bundle, mime: str, budget: Budget) -> Artefact:
    data = bundle[mime]
    if not data.startswith(_SIGNATURES[mime]):
        raise Malformed(f"its {mime} does not begin as one")
    _, source, label = _caption(bundle)
    entry: dict[str, Any] = {"type": "image", "data": base64.b64encode(data).decode()}
    if label is not None:
        entry["label"] = label
    return Artefact("plot", entry | {"source": source} | _pixels(data))


def _pixels(data: bytes) -> dict[str, int]:
    """The size of a PNG, which its header tells."""
    if not data.startswith(_PNG) or len(data) < 24:
        return {}
    width, height = struct.unpack_from(">II", data, 16)
    return {"width": width, "height": height}


def _library(kind: str) -> Maker:
    def make(bundle: Bundle, mime: str, budget: Budget) -> Artefact:
        return Artefact("display", library_entry(kind, _text(bundle, mime)))

    return make


def _library_json(bundle: Bundle, mime: str, budget: Budget) -> Artefact:
    content = plain.dump(budget.parse(bundle[mime]).value)
    return Artefact("display", library_entry("json", content))


def _text(bundle: Bundle, mime: str) -> str:
    return bundle.text(mime) if mime in bundle else ""


def _caption(bundle: Bundle) -> tuple[str | None, str, str | None]:
    """Name, source and label, from the metadata; what is no text there is not said."""
    said = bundle.metadata.get("cellblock")
    caption = said if type(said) is dict else {}
    name, label = (_said(caption.get(key)) for key in ("name", "label"))
    source = "auto-captured" if caption.get("source") == "auto-captured" else "display"
    return name, source, label


def _said(value: Any) -> str | None:
    return plain.well_formed(value) if type(value) is str else None


Maker: TypeAlias = Callable[[Bundle, str, Budget], Artefact]

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_SIGNATURES: Final = {
    "image/png": _PNG,
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
}

# The first that a bundle has is taken.
_MAKERS: Final[tuple[tuple[str, Maker], ...]] = (
    (TABLE, _table),
    (DISPLAY, _display),
    (PLOTLY, _plotly),
    ("text/html", _library("html")),
    *((mime, _image) for mime in _SIGNATURES),
    ("image/svg+xml", _library("html")),
    ("text/markdown", _library("text")),
    ("text/latex", _library("text")),
    ("application/json", _library_json),
    ("text/plain", _library("text")),
)
