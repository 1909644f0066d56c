"""What is captured, in the forms in which it travels: a table, an image, a Plotly figure, or a shown thing.

Each is one Display output. Beside the part that the client's `ExecutionService` reads stands the mime type
that every other reader of outputs understands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from cellblock_worker import bundle

TABLE = "application/vnd.cellblock.table+json"
# Beside a table: the columns that its JSON has null for, one after the other, as little-endian doubles.
FLOATS = "application/vnd.cellblock.floats"
DISPLAY = "application/vnd.cellblock.display+json"
PLOTLY = "application/vnd.plotly.v1+json"
PNG = "image/png"

Source = Literal["display", "variable", "auto-captured"]
# Mime types with what stands for them; bytes under a JSON type are JSON that is text already.
Parts = dict[str, Any]


class Entry(Protocol):
    """Something captured. `numbered` is the word that default labels count; else `default` is the label."""

    @property
    def numbered(self) -> str | None: ...

    @property
    def default(self) -> str: ...

    def parts(self, label: str | None, source: Source) -> Parts:
        """The representations, the one for the client first."""

    def metadata(self, label: str | None, source: Source) -> Mapping[str, Any] | None:
        """The bundle's metadata."""

    def natural(self) -> Parts:
        """The representations that need no label."""


@dataclass(frozen=True)
class Table:
    """A DataFrame, or what became one."""

    name: str
    shape: tuple[int, int]
    columns: list[Any]
    # By column: plain values, or an array of doubles, whose text would take longer than all the rest.
    values: list[Any]
    # How many each has.
    rows: int
    dtypes: dict[str, str]
    memory_usage: dict[str, int]
    html: str
    numbered: str | None = "Table"
    default: str = ""

    def parts(self, label: str | None, source: Source) -> Parts:
        shown = source == "display"
        wire = {
            "name": self.name,
            "source": source,
            "type": "table" if shown else None,
            "label": label if shown else None,
            "shape": list(self.shape),
            "columns": self.columns,
            "rows": self.rows,
            "values": [column if type(column) is list else None for column in self.values],
            "info": {"dtypes": self.dtypes, "memory_usage": self.memory_usage},
            "truncated": (self.rows, len(self.columns)) != self.shape,
        }
        parts: Parts = {TABLE: bundle.json_text(wire)}
        if arrays := [column for column in self.values if type(column) is not list]:
            parts[FLOATS] = b"".join(array.tobytes() for array in arrays)
        return parts | self.natural()

    def metadata(self, label: str | None, source: Source) -> None:
        return None

    def natural(self) -> Parts:
        return {"text/html": self.html}


@dataclass(frozen=True)
class Shown:
    """HTML, JSON, text or the description of a model."""

    type: Literal["html", "json", "text", "model"]
    content: str
    others: Parts = field(default_factory=dict)
    numbered: str | None = None
    default: str = "Data"

    def parts(self, label: str | None, source: Source) -> Parts:
        wire = {"type": self.type, "label": label, "content": self.content, "source": "display"}
        return {DISPLAY: bundle.json_text(wire), **self.natural()}

    def metadata(self, label: str | None, source: Source) -> None:
        return None

    def natural(self) -> Parts:
        mime = {"html": "text/html", "text": "text/plain"}.get(self.type, "application/json")
        content: Any = self.content.encode("utf-8", "replace") if mime == "application/json" else self.content
        return {mime: content, **{other: value for other, value in self.others.items() if other != mime}}


@dataclass(frozen=True)
class Image:
    """A picture."""

    data: bytes
    mime: str = PNG
    numbered: str | None = "Figure"
    default: str = ""

    def parts(self, label: str | None, source: Source) -> Parts:
        return self.natural()

    def metadata(self, label: str | None, source: Source) -> Mapping[str, Any]:
        return {"cellblock": {"label": label, "source": source}}

    def natural(self) -> Parts:
        return {self.mime: self.data}


@dataclass(frozen=True)
class Plotly:
    """An interactive figure, as Plotly itself writes it."""

    name: str
    json: str
    numbered: str | None = "Figure"
    default: str = ""

    def parts(self, label: str | None, source: Source) -> Parts:
        return self.natural()

    def metadata(self, label: str | None, source: Source) -> Mapping[str, Any]:
        return {"cellblock": {"name": self.name, "label": label, "source": source}}

    def natural(self) -> Parts:
        return {PLOTLY: self.json.encode("utf-8", "replace")}
