"""Mime bundles as the wire wants them: parts over one payload.

JSON types travel as JSON text, images as raw bytes, everything else as UTF-8. What cannot be
encoded costs that one representation, never the cell.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import numbers
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

# Below the frame's 64 MiB, with room for what else shares the payload.
BUNDLE_BYTES = 48 << 20
# Mime types and their number go into meta.
MIME_CHARACTERS = 256
PARTS = 64

_TEXT_IMAGES = frozenset(["image/svg+xml"])


@dataclass
class Encoded:
    """A bundle and its bytes; spans count from the start of `payload`."""

    parts: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, int] | None = None
    payload: bytes = b""
    # What was left out, and why; one sentence each.
    degraded: list[str] = field(default_factory=list)

    def wire(self, base: int = 0) -> dict[str, Any]:
        """The `Bundle` message for a payload in which these bytes begin at `base`."""
        return {
            "parts": [{"mime": part["mime"], "span": _moved(part["span"], base)} for part in self.parts],
            "metadata": None if self.metadata is None else _moved(self.metadata, base),
        }


def encode(data: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> Encoded:
    """Encodes what a formatter or `display` gave."""
    bundle = Encoded()
    pieces: list[tuple[str, bytes]] = []
    for mime, value in list(data.items())[:PARTS]:
        if value is None:
            continue
        try:
            pieces.append((str(mime)[:MIME_CHARACTERS], _piece(str(mime), value)))
        except Exception as error:
            bundle.degraded.append(f"{mime} was left out: {type(error).__name__}: {error}"[:500])
    if len(data) > PARTS:
        bundle.degraded.append(f"{len(data) - PARTS} representations were left out: at most {PARTS}")
    _drop_largest(pieces, bundle)

    offset = 0
    for mime, piece in pieces:
        bundle.parts.append({"mime": mime, "span": {"offset": offset, "length": len(piece)}})
        offset += len(piece)
    chunks = [piece for _, piece in pieces]
    if metadata:
        text = _metadata(metadata, bundle)
        bundle.metadata = {"offset": offset, "length": len(text)}
        chunks.append(text)
    bundle.payload = b"".join(chunks)
    return bundle


def json_text(value: Any) -> bytes:
    """A value as JSON text; what JSON lacks becomes null (not-a-number), what is near to it, or its `str`."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_near)
    except (ValueError, TypeError):
        text = json.dumps(_plain(value), ensure_ascii=False, default=_near)
    return text.encode("utf-8", "replace")


def _piece(mime: str, value: Any) -> bytes:
    if mime == "application/json" or mime.endswith("+json"):
        return json_text(value)
    if _is_binary(mime):
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        # IPython base64-encodes images itself when it displays them by URL or file.
        return base64.b64decode("".join(str(value).split()), validate=True)
    if isinstance(value, (bytes, bytearray, memoryview)):
        # As Jupyter does with bytes under a type that is not known to be binary.
        return bytes(value) if _is_text(mime) else binascii.b2a_base64(bytes(value))
    if isinstance(value, (list, tuple)) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    if isinstance(value, (Mapping, list, tuple)):
        # JSON under a name that does not say so: Altair's `application/vnd.vegalite.v6.json`.
        return json_text(value)
    return str(value).encode("utf-8", "backslashreplace")


def _is_binary(mime: str) -> bool:
    return (mime.startswith("image/") and mime not in _TEXT_IMAGES) or mime == "application/pdf"


def _is_text(mime: str) -> bool:
    return mime.startswith("text/") or mime in _TEXT_IMAGES or mime == "application/javascript"


def _drop_largest(pieces: list[tuple[str, bytes]], bundle: Encoded) -> None:
    while sum(len(piece) for _, piece in pieces) > BUNDLE_BYTES:
        largest = max(range(len(pieces)), key=lambda at: len(pieces[at][1]))
        mime, piece = pieces.pop(largest)
        bundle.degraded.append(
            f"{mime} of {len(piece)} bytes was left out: one output may have {BUNDLE_BYTES} bytes"
        )


def _metadata(metadata: Mapping[str, Any], bundle: Encoded) -> bytes:
    try:
        text = json_text(metadata)
    except Exception as error:
        bundle.degraded.append(f"metadata was left out: {type(error).__name__}: {error}"[:500])
        return b"{}"
    if len(text) > BUNDLE_BYTES // 8:
        bundle.degraded.append(f"metadata of {len(text)} bytes was left out")
        return b"{}"
    return text


def _moved(span: dict[str, int], base: int) -> dict[str, int]:
    return {"offset": span["offset"] + base, "length": span["length"]}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return value


def _near(value: Any) -> Any:
    """What Jupyter makes of a value that json does not know: NumPy's numbers and arrays, dates, sets."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Collection) and not isinstance(value, str):
        return _plain(list(value))
    return str(value)
