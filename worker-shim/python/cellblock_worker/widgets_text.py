"""A widget of ipywidgets as text: what it is, what it is called, how it stands, what is within it.

Widgets are told apart by what they have, not by their classes: other packages derive from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NOTE = "(shown as text: widgets have no live front end here)"

# Widgets and characters of one text.
WIDGETS = 100
CHARACTERS = 200
OUTPUT_CHARACTERS = 10_000
BAR = 20


def describe(widget: Any) -> tuple[str, frozenset[str]]:
    """A widget and those within it as text, and their models."""
    models: set[str] = set()
    lines = list(_lines(widget, models))
    if hasattr(type(widget), "_repr_pretty_"):
        # It says itself how it reads as text: the bars of tqdm do.
        from IPython.lib.pretty import pretty

        return pretty(widget), frozenset(models)
    lines[0] += f"  {NOTE}"
    return "\n".join(lines), frozenset(models)


def _lines(widget: Any, models: set[str]) -> Iterator[str]:
    """Its line, and those of what is within it. Each widget once, lest they contain each other."""
    models.add(str(getattr(widget, "model_id", "")))
    first, *more = _own_text(widget).split("\n")
    yield first
    yield from (f"  {line}" for line in more)
    children = getattr(widget, "children", ())
    for child in children if isinstance(children, (tuple, list)) else ():
        if str(getattr(child, "model_id", "")) in models:
            continue
        if len(models) >= WIDGETS:
            yield "  …"
            return
        yield from (f"  {line}" for line in _lines(child, models))


def _own_text(widget: Any) -> str:
    """What it is, what it is called, how it stands, and what it might be."""
    kind = type(widget).__name__
    told = " ".join(filter(None, (kind, _clipped(getattr(widget, "description", "")).strip())))
    if hasattr(widget, "outputs"):
        kept = _kept_outputs(widget.outputs)
        return f"{told}\n{kept}" if kept else f"{told}: what is written into it stands where it was written"
    if titles := getattr(widget, "titles", ()):
        return f"{told}: {_clipped(', '.join(map(str, titles)))}"
    if not hasattr(widget, "value"):
        # One of another library, of which nothing is known: its repr names its traits.
        return told if told != kind or hasattr(widget, "children") else _clipped(repr(widget))
    view = getattr(widget, "_view_name", None)
    if view == "PasswordView":
        return f"{told}: {'•' * len(widget.value)}"
    options = getattr(widget, "_options_labels", None)
    told += f": {_value(widget.value if options is None else widget.label)}"
    if options is not None:
        told += f" (of {_clipped(', '.join(map(str, options[:CHARACTERS])))})"
    elif getattr(widget, "min", None) is not None and getattr(widget, "max", None) is not None:
        told += f" ({_value(widget.min)} to {_value(widget.max)})"
        if view == "ProgressView":
            told += f"  {_bar((widget.value - widget.min) / (widget.max - widget.min or 1))}"
    return told


def _value(value: Any) -> str:
    if isinstance(value, (bytes, memoryview)):
        return f"{len(value):,} bytes"
    return _clipped("none" if value is None else value)


def _bar(share: float) -> str:
    full = round(BAR * min(max(share, 0), 1))
    return "█" * full + "░" * (BAR - full)


def _clipped(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"


def _kept_outputs(outputs: Any) -> str:
    """What `append_stdout` and the like put into an `Output` widget: it has been shown nowhere else."""
    texts = []
    for output in outputs:
        data = output.get("data") or {}
        texts.append(str(output.get("text") or data.get("text/plain") or ", ".join(data)).rstrip("\n"))
    return "\n".join(texts)[:OUTPUT_CHARACTERS]
