"""Run once inside a sandbox when an interpreter is set up: makes what costs seconds later.

Leaves in the workspace: `lib/cellblock_worker/**/*.pyc`, for `$CELLBLOCK_CACHE/lib`, and
`matplotlib/fontlist*.json`, for `$CELLBLOCK_CACHE/matplotlib`. Prints nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import py_compile
from pathlib import Path


def main() -> None:
    """Fills the current directory (`/workspace`)."""
    workspace = Path.cwd()
    compile_worker(workspace / "lib")
    if importlib.util.find_spec("matplotlib") is not None:
        fonts = workspace / "matplotlib"
        fonts.mkdir(exist_ok=True)
        os.environ["MPLCONFIGDIR"] = str(fonts)
        # Its import makes the list. A matplotlib that is broken breaks when the user imports it.
        with contextlib.suppress(Exception):
            importlib.import_module("matplotlib.font_manager")


def compile_worker(target: Path) -> None:
    """This package without sources, so that no start compiles it; tracebacks name the sources."""
    package = Path(__file__).resolve().parent
    for source in sorted(package.rglob("*.py")):
        compiled = (target / package.name / source.relative_to(package)).with_suffix(".pyc")
        compiled.parent.mkdir(parents=True, exist_ok=True)
        py_compile.compile(
            str(source),
            cfile=str(compiled),
            dfile=str(source),
            doraise=True,
            # The sources are read-only beside it and of the same build: nothing to check.
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
