"""`Image.show()` displays the picture in the notebook.

Pillow starts the first viewer that it finds on the machine and asks IPython last. There may be a program
of that name in the sandbox, but never a screen.
"""

from __future__ import annotations

import types

from .imports import when_imported


def install() -> None:
    """Waits for Pillow to be imported."""
    when_imported("PIL.ImageShow", _prefer_ipython)


def _prefer_ipython(module: types.ModuleType) -> None:
    module.register(module.IPythonViewer, 0)
