"""Jupyter's widgets as text, which follows what code does to them.

A widget is a model in the worker and a view in a browser, and the two talk. Here nobody talks back: no
slider is moved, no button pressed. So a display of a widget has its state as text in place of a view that
would stay empty; and when code changes a widget that is shown, the display is updated. That is how
`tqdm.notebook` and progress widgets move.

What is written within an `Output` widget, as `interact` does, stands where it is written.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .imports import when_imported
from .widgets_text import NOTE, describe

VIEW = "application/vnd.jupyter.widget-view+json"

# Shown widgets that are followed; the oldest is left as it stands.
VIEWS = 200
# Between two updates of one display, in seconds: a loop may change a widget 50,000 times in one, and one
# step of a tqdm bar changes three widgets.
PAUSE = 0.02

Send = Callable[[dict[str, Any], str], None]

_within_output: contextvars.ContextVar[int] = contextvars.ContextVar("cellblock_within_output", default=0)


def is_within_output() -> bool:
    """Whether the code that runs writes into an `Output` widget."""
    return _within_output.get() > 0


@dataclass
class _View:
    """A widget that is shown."""

    widget: Any
    text: str = ""
    # Models whose changes show in it: its own and those within it.
    models: frozenset[str] = frozenset()
    display_ids: dict[str, None] = field(default_factory=dict)
    shown_at: float = 0.0
    # It has changed since.
    is_behind: bool = False


class Views:
    """The widgets that are shown, by model."""

    def __init__(self, update: Send) -> None:
        self._update = update
        self._views: dict[str, _View] = {}
        # A view is.
        self.is_behind = False

    def install(self) -> None:
        """Waits for the packages that widgets are made with."""
        when_imported("comm", self._listen)
        when_imported("ipywidgets.widgets.widget_output", _mark_outputs)

    def display(self, data: dict[str, Any], display_id: str | None) -> tuple[dict[str, Any], str | None]:
        """What to display for a bundle, and under which id."""
        if display_id is not None:
            # Whatever it showed before, it shows something else from now on.
            for view in list(self._views.values()):
                view.display_ids.pop(display_id, None)
        widget = _widget(data)
        if widget is None:
            return as_text(data), display_id
        model = str(data[VIEW]["model_id"])
        view = self._views.setdefault(model, _View(widget))
        if len(self._views) > VIEWS:
            del self._views[next(iter(self._views))]
        shown = model if display_id is None else display_id
        view.display_ids[shown] = None
        view.text, view.models = _described(widget, data)
        return _with_text(data, view.text), shown

    def changed(self, model: str) -> None:
        """A model has another state than before."""
        for view in list(self._views.values()):
            if model not in view.models:
                continue
            if time.monotonic() - view.shown_at >= PAUSE:
                self._bring_up(view)
            else:
                view.is_behind = self.is_behind = True

    def closed(self, model: str) -> None:
        """A model is gone, and so is what is shown of it."""
        view = self._views.pop(model, None)
        if view is not None:
            self._show(view, "")

    def catch_up(self) -> None:
        """Before other outputs and at the end of a cell: every display shows what is."""
        self.is_behind = False
        for view in list(self._views.values()):
            if view.is_behind:
                self._bring_up(view)

    def _bring_up(self, view: _View) -> None:
        view.is_behind = False
        # What user code does wrong in its widgets must not meet it where it sets a value.
        with contextlib.suppress(Exception):
            text, view.models = describe(view.widget)
            if text != view.text:
                self._show(view, text)

    def _show(self, view: _View, text: str) -> None:
        view.text, view.shown_at = text, time.monotonic()
        for display_id in list(view.display_ids):
            self._update({"text/plain": text}, display_id)

    def _listen(self, module: types.ModuleType) -> None:
        views, base = self, module.BaseComm

        class Comm(base):  # type: ignore[misc, valid-type]
            """Jupyter's own place for a kernel's connection to its front end; here it ends at the views."""

            def publish_msg(self, msg_type: str, *_: Any, **__: Any) -> None:
                if msg_type == "comm_msg":
                    views.changed(self.comm_id)
                elif msg_type == "comm_close":
                    views.closed(self.comm_id)

        module.create_comm = Comm  # type: ignore[attr-defined]


def as_text(data: dict[str, Any]) -> dict[str, Any]:
    """A bundle with the widget in it as text, as it is now."""
    return _with_text(data, _described(_widget(data), data)[0]) if VIEW in data else data


def _with_text(data: dict[str, Any], text: str) -> dict[str, Any]:
    return {"text/plain": text, **{m: value for m, value in data.items() if m not in (VIEW, "text/plain")}}


def _described(widget: Any, data: dict[str, Any]) -> tuple[str, frozenset[str]]:
    """As `describe`; what cannot be described is what its bundle says."""
    if widget is not None:
        with contextlib.suppress(Exception):
            return describe(widget)
    return f"{data.get('text/plain', 'a widget')}  {NOTE}", frozenset()


def _widget(data: dict[str, Any]) -> Any:
    """The widget that a bundle is of."""
    view, module = data.get(VIEW), sys.modules.get("ipywidgets.widgets.widget")
    if not isinstance(view, dict) or module is None:
        return None
    return getattr(module, "_instances", {}).get(view.get("model_id"))


def _mark_outputs(module: types.ModuleType) -> None:
    enter, leave = module.Output.__enter__, module.Output.__exit__

    def marked_enter(self: Any) -> Any:
        _within_output.set(_within_output.get() + 1)
        return enter(self)

    def marked_leave(self: Any, *error: Any) -> Any:
        _within_output.set(_within_output.get() - 1)
        return leave(self, *error)

    module.Output.__enter__, module.Output.__exit__ = marked_enter, marked_leave
