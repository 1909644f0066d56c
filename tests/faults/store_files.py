"""What lies where in the files of a store (docs/checkpoint-format.md): each kind of it can be damaged."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_HEADER_BYTES: Final = 4096
_FOOTER: Final = struct.Struct("<QQ32s8s")
_ENTRY: Final = struct.Struct("<32sQIIBBH")
_BUFFER: Final = 0
_HASH_BYTES: Final = 32


@dataclass(frozen=True)
class Region:
    """A stretch of a file that is all of one kind; `file` is relative to the store."""

    file: str
    kind: str
    begin: int
    end: int


def regions(store: Path) -> list[Region]:
    """All of a store: no byte of a file is in two, and only bytes that nothing refers to are in none."""
    found = [Region(name, name, 0, (store / name).stat().st_size) for name in ("FORMAT", "HEAD")]
    head = (store / "HEAD").read_text().split()[0]
    roots: dict[bytes, str] = {}
    for path in sorted((store / "manifests").iterdir()):
        age = "current" if path.name == head else "older"
        file = f"manifests/{path.name}"
        found.append(Region(file, f"manifest, {age}", 0, path.stat().st_size))
        roots.update(_roots(json.loads(path.read_bytes().splitlines()[0])))
    for path in sorted((store / "packs").iterdir()):
        age = "current" if path.name == head else "older"
        found += (
            Region(f"packs/{path.name}", f"pack, {age}: {kind}", begin, end)
            for kind, begin, end in _pack(path.read_bytes(), roots)
        )
    return found


def _roots(manifest: dict[str, Any]) -> dict[bytes, str]:
    """The kinds of the blobs that a manifest names."""
    named = {"stream": manifest["stream"], "layout": manifest["layout"]["blob"]}
    return {
        bytes.fromhex(root["hash"]): f"{what} recipe" if root["depth"] else what
        for what, root in named.items()
    }


def _pack(data: bytes, roots: dict[bytes, str]) -> Iterator[tuple[str, int, int]]:
    index, count, _, _ = _FOOTER.unpack(data[-_FOOTER.size :])
    entries = [_ENTRY.unpack_from(data, index + number * _ENTRY.size) for number in range(count)]
    kinds = dict(roots)
    for hash_, at, stored, length, _, _, _ in entries:
        # A recipe is hashes, which nothing compresses: it lies there as it is.
        if roots.get(hash_, "").endswith("recipe") and stored == length:
            parts = (data[at + place : at + place + _HASH_BYTES] for place in range(0, length, _HASH_BYTES))
            kinds.update(dict.fromkeys(parts, roots[hash_].removesuffix(" recipe")))
    yield "header", 0, _HEADER_BYTES
    for hash_, at, stored, _, _, kind, _ in entries:
        what = "buffer" if kind == _BUFFER else kinds.get(hash_, "buffer recipe")
        yield what, at, at + stored
        if kind == _BUFFER and stored % _HEADER_BYTES:
            yield "padding", at + stored, at + stored - stored % _HEADER_BYTES + _HEADER_BYTES
    yield "index", index, index + count * _ENTRY.size
    yield "footer", len(data) - _FOOTER.size, len(data)
