"""Modules that are imported when they are first used, under names that every notebook of the service has."""

from __future__ import annotations

import importlib
import re
import types
from collections.abc import Callable
from typing import Any

from .hints import explain

# The initial names that stand for modules.
MODULES = {
    "pd": "pandas",
    "np": "numpy",
    "plt": "matplotlib.pyplot",
    "px": "plotly.express",
    "go": "plotly.graph_objects",
    "sns": "seaborn",
    "stats": "scipy.stats",
}
# Those that the service has always had at hand. A cell that mentions one gets the module itself: together
# they take half a second to import, which is too long for a cell that does without.
AT_HAND = ("pd", "np", "plt")

_MENTIONED = re.compile(rf"\b(?:{'|'.join(AT_HAND)})\b")

# Puts the module in the place of the one that stood for it.
Rebind = Callable[[str, "LazyModule", types.ModuleType], None]


class LazyModule(types.ModuleType):
    """Stands for a module until something of it is asked for."""

    def __init__(self, alias: str, rebind: Rebind) -> None:
        super().__init__(MODULES[alias])
        vars(self).update(_cellblock_alias=alias, _cellblock_rebind=rebind)
        for name in ("__doc__", "__loader__", "__package__", "__spec__"):
            vars(self).pop(name, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(load(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(load(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(load(self), name)

    def __dir__(self) -> list[str]:
        return dir(load(self))

    def __repr__(self) -> str:
        try:
            return repr(load(self))
        except ImportError:
            return f"<module {self.__name__!r} (not installed)>"

    def __reduce__(self) -> Any:
        return importlib.import_module, (self.__name__,)


def load(lazy: LazyModule) -> types.ModuleType:
    """The module itself; from now on its name holds it. Raises `ModuleNotFoundError` with a hint."""
    own = vars(lazy)
    try:
        module = importlib.import_module(own["__name__"])
    except ModuleNotFoundError as error:
        explain(error)
        # Without the frames of the import, as from an import statement.
        raise error.with_traceback(None) from None
    own["_cellblock_rebind"](own["_cellblock_alias"], lazy, module)
    return module


def mentioned(code: str) -> set[str]:
    """Which of the names at hand a cell mentions."""
    return set(_MENTIONED.findall(code))
