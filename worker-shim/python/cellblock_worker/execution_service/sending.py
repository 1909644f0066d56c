"""One Display output out of representations, some of which are JSON text already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cellblock_worker import bundle
from cellblock_worker.publish import Outputs

from .entries import FLOATS


def send(
    outputs: Outputs,
    parts: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    display_id: str | None = None,
    update: bool = False,
) -> None:
    """Sends it. Bytes under a type of ours, or a JSON type, go as they are."""
    if not outputs.is_open:
        # A forked child has no frames.
        return
    ready = {mime: value for mime, value in parts.items() if isinstance(value, bytes) and _is_ready(mime)}
    encoded = bundle.encode({mime: value for mime, value in parts.items() if mime not in ready}, metadata)
    degraded = list(encoded.degraded)
    while ready and sum(map(len, ready.values())) + len(encoded.payload) > bundle.BUNDLE_BYTES:
        mime = max(ready, key=lambda mime: len(ready[mime]))
        size = len(ready.pop(mime))
        degraded.append(
            f"{mime} of {size} bytes was left out: one output may have {bundle.BUNDLE_BYTES} bytes"
        )
    first: list[dict[str, Any]] = []
    offset = 0
    for mime, value in ready.items():
        first.append({"mime": mime, "span": {"offset": offset, "length": len(value)}})
        offset += len(value)
    wire = encoded.wire(offset)
    wire["parts"] = first + wire["parts"]
    payload = b"".join(ready.values()) + encoded.payload
    outputs.send({"display": {"bundle": wire, "display_id": display_id, "update": update}}, payload)
    for sentence in degraded:
        outputs.notice(sentence)


def _is_ready(mime: str) -> bool:
    return mime in ("application/json", FLOATS) or mime.endswith("+json")
