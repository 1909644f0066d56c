"""What IPython's display system makes of an object, as one captured thing.

An object that describes itself (`_repr_*_`, `_repr_mimebundle_`, formatters that somebody registered) is
shown by the richest of its descriptions; the others travel beside it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.utils.dir2 import get_real_method

from cellblock_worker import bundle

from .cells import text
from .entries import PLOTLY, PNG, Entry, Image, Parts, Plotly, Shown

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell

# Richest first; the kinds of content that a result has.
_RICH = ("text/html", "image/svg+xml", "text/markdown", "text/latex")
_PICTURES = (PNG, "image/jpeg", "image/gif")
# Formatters that are asked one by one, beside an object's own bundle.
_ASKED = ("text/html", PNG, "image/jpeg", "image/svg+xml", "text/markdown", "text/latex", "application/json")


def displays_itself(obj: Any) -> bool:
    """Whether it has `_ipython_display_`, which displays something else in its place."""
    return get_real_method(obj, "_ipython_display_") is not None


def html_of(shell: Shell, obj: Any) -> str | None:
    """Its HTML, by method or by registered formatter."""
    data, _ = _ask(shell.display_formatter.formatters["text/html"], obj)
    return data if isinstance(data, str) else None


def bundle_of(shell: Shell, obj: Any) -> Parts:
    """All its descriptions but the plain text, which every object has."""
    formatter = shell.display_formatter
    found = _ask(formatter.mimebundle_formatter, obj)[0]
    parts: Parts = dict(found) if isinstance(found, Mapping) else {}
    for mime in _ASKED:
        if mime not in parts and mime in formatter.formatters:
            data, _ = _ask(formatter.formatters[mime], obj)
            if data is not None:
                parts[mime] = data
    return {mime: value for mime, value in parts.items() if value is not None}


def entry_of(parts: Mapping[str, Any]) -> Entry | None:
    """A bundle as one entry; None when it holds nothing that a result has a place for."""
    if PLOTLY in parts:
        return Plotly("figure", _json(parts[PLOTLY]))
    others = {mime: value for mime, value in parts.items() if isinstance(mime, str)}
    if "text/html" in parts:
        return Shown("html", _joined(parts["text/html"]), others, numbered="Table")
    for mime in _PICTURES:
        if mime in parts and (data := _bytes(parts[mime])) is not None:
            return Image(data, mime)
    for mime in _RICH:
        if mime in parts:
            kind: Any = "html" if mime == "image/svg+xml" else "text"
            return Shown(kind, _joined(parts[mime]), others)
    for mime, value in others.items():
        if mime == "application/json" or mime.startswith("application/vnd.vega"):
            return Shown("json", _json(value), others)
    if "application/javascript" in parts:
        return Shown("html", f"<script>{_joined(parts['application/javascript'])}</script>", others)
    if "text/plain" in parts:
        return Shown("text", _joined(parts["text/plain"]), others)
    return None


def png_of(picture: Any) -> bytes:
    """A PIL image as PNG."""
    buffer = io.BytesIO()
    try:
        picture.save(buffer, "PNG")
    except OSError:
        # A mode that PNG does not have.
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _ask(formatter: Any, obj: Any) -> tuple[Any, Any]:
    """A formatter's answer and its metadata; nothing where it fails.

    A formatter shows what goes wrong in it as a traceback, which would make the cell look failed. So
    its undecorated call is used.
    """
    call = type(formatter).__call__
    try:
        answer = getattr(call, "__wrapped__", call)(formatter, obj)
    except Exception:
        return None, None
    return answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)


def _bytes(value: Any) -> bytes | None:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    try:
        return base64.b64decode("".join(str(value).split()), validate=True)
    except ValueError:
        return None


def _joined(value: Any) -> str:
    if isinstance(value, (list, tuple)) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return value if isinstance(value, str) else text(value)


def _json(value: Any) -> str:
    # What the plug-in itself has made is text already.
    encoded = value if isinstance(value, bytes) else bundle.json_text(value)
    return encoded.decode("utf-8", "replace")
