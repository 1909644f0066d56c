"""Lets Plotly show its figures as data where nbformat is not installed.

Plotly looks for nbformat only to learn whether the front end understands mime bundles, and refuses
to show a figure without it. Ours does, so the answer is given when Plotly asks, and only then:
nothing is imported that user code did not import.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
from collections.abc import Sequence

_MODULE = "plotly.io._renderers"


class _Finder:
    """A finder that is asked first, acts once, and leaves the real work to the others."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                execute(module)
                if getattr(module, "nbformat", "") is None:
                    # Its version is all that is looked at.
                    module.nbformat = types.SimpleNamespace(__version__="5.0.0")  # type: ignore[attr-defined]

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Waits for Plotly to be imported."""
    sys.meta_path.insert(0, _Finder())
