"""Lets Plotly show its figures as data where nbformat is not installed.

Plotly looks for nbformat only to learn whether the front end understands mime bundles, and refuses
to show a figure without it. Ours does, so the answer is given when Plotly asks, and only then.
"""

from __future__ import annotations

import types

from .imports import when_imported


def install() -> None:
    """Waits for Plotly to be imported."""
    when_imported("plotly.io._renderers", _answer)


def _answer(module: types.ModuleType) -> None:
    if getattr(module, "nbformat", "") is None:
        # Its version is all that is looked at.
        module.nbformat = types.SimpleNamespace(__version__="5.0.0")  # type: ignore[attr-defined]
