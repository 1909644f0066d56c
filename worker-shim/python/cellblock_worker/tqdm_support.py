"""`tqdm.auto` shows its bars as displays, as in a notebook.

It looks for ipykernel to choose between text on stderr and widgets, and there is none. Its widgets are
text here too (widgets_support.py), but each bar keeps its own place: bars within bars and what is
printed between them do not run into each other.
"""

from __future__ import annotations

import importlib
import types

from .imports import when_imported


def install() -> None:
    """Waits for tqdm to be imported."""
    when_imported("tqdm.autonotebook", _choose_notebook)


def _choose_notebook(module: types.ModuleType) -> None:
    # What the module itself does where it finds ipykernel.
    notebook = importlib.import_module("tqdm.notebook")
    if notebook.IProgress is not None:
        module.tqdm, module.trange = notebook.tqdm, notebook.trange  # type: ignore[attr-defined]
