"""Acts on somebody else's module right after it was imported.

For what a library must find changed before user code uses it. Nothing is imported for that: who never
imports the module pays nothing.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
import types
from collections.abc import Callable, Sequence

Act = Callable[[types.ModuleType], None]


class _Finder:
    """A finder that is asked first and leaves the real work to the others."""

    def __init__(self) -> None:
        self.acts: dict[str, list[Act]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        acts = self.acts.get(name)
        if acts is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                execute(module)
                for act in acts:
                    # Another version of the library than the act was written for: it stays as it is.
                    with contextlib.suppress(Exception):
                        act(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_finder = _Finder()


def when_imported(module: str, act: Act) -> None:
    """Calls `act` with the module each time that it has been imported or reloaded."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.acts.setdefault(module, []).append(act)
