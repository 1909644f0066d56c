"""`show(figure, notebook_handle=True)` and `push_notebook` without a live front end.

Bokeh asks ipykernel for a connection to the page; there is neither. The figure is shown as it is, and
who pushes a change to it is told that the change was not shown.
"""

from __future__ import annotations

import types
from typing import Any

from .imports import when_imported
from .publish import Outputs


def install(outputs: Outputs) -> None:
    """Waits for Bokeh to be imported."""

    def connect(module: types.ModuleType) -> None:
        page = _NoPage(outputs)
        module.get_comms = lambda target_name: page  # type: ignore[attr-defined]

    when_imported("bokeh.io.notebook", connect)


class _NoPage:
    """What Bokeh sends its changes to."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._is_told = False

    def send(self, *_: Any, **__: Any) -> None:
        """Says once what becomes of them all."""
        if not self._is_told and self._outputs.is_open:
            self._is_told = True
            self._outputs.notice("push_notebook changes nothing here: call show() again to see the change")
