"""Acts on a module as soon as it is there, whoever imports it."""

from __future__ import annotations

import contextlib
import sys

from cellblock_worker.imports import Act, when_imported


def when_there(name: str, act: Act) -> None:
    """Calls `act` with the module: now if it has been imported, and each time that it is."""
    module = sys.modules.get(name)
    if module is not None:
        # One that is not what we know stays as it is.
        with contextlib.suppress(Exception):
            act(module)
    when_imported(name, act)
