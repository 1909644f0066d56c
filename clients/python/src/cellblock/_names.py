"""A variable by name, as Outcomes, statuses and checkpoints tell of it."""

from __future__ import annotations

from dataclasses import dataclass

from ._fields import Fields


@dataclass(frozen=True, slots=True)
class NameInfo:
    """A variable: its name, its type as Python writes it, its size where that is cheap to know."""

    name: str
    kind: str
    size_bytes: int | None


def parse_name(fields: Fields) -> NameInfo:
    """A variable."""
    return NameInfo(fields.text("name"), fields.text("kind"), fields.optional_integer("bytes"))
