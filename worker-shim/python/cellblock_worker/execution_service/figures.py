"""matplotlib in runs of the service: figures drawn by Agg, captured at the end, shown once.

Between such runs everything is as IPython has it: the inline backend shows figures at the end of a cell. So
the backend is changed when a run begins, and changed back when other code is about to run. matplotlib is
never imported for this.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .hooks import when_there

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell

DPI = 150
_INLINE = ("inline", "module://matplotlib_inline.backend_inline")


def is_savable(obj: Any) -> bool:
    """Whether it can be saved as a figure: a Figure, a seaborn grid, pyplot itself."""
    if isinstance(obj, types.ModuleType):
        return obj is sys.modules.get("matplotlib.pyplot")
    # In the class: an object may claim to have any attribute.
    return callable(getattr(type(obj), "savefig", None))


def png(obj: Any) -> bytes:
    """What its `savefig` draws."""
    buffer = io.BytesIO()
    obj.savefig(buffer, format="png", bbox_inches="tight", dpi=DPI)
    return buffer.getvalue()


def figure_of(obj: Any) -> Any:
    """The Figure that something savable draws, or the thing itself."""
    if isinstance(obj, types.ModuleType):
        return obj.gcf()
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    if figure is not None and not isinstance(obj, figure):
        for name in ("figure", "fig"):
            with contextlib.suppress(Exception):
                if isinstance(found := getattr(obj, name), figure):
                    return found
    return obj


class Pyplot:
    """pyplot's state, and whose backend is in use."""

    def __init__(self, shell: Shell, is_active: Callable[[], bool]) -> None:
        self._shell = shell
        self._is_active = is_active
        # What the rest of the notebook had, while ours is in its place: backend, interactive mode.
        self._before: tuple[str, bool] | None = None
        when_there("matplotlib.pyplot", self._hook)

    def _hook(self, pyplot: Any) -> None:
        show, switch = pyplot.show, pyplot.switch_backend

        def show_later(*args: Any, **options: Any) -> Any:
            # The figures are captured at the end of the run.
            return None if self._is_active() else show(*args, **options)

        def switch_backend(newbackend: str) -> None:
            if self._is_active() and str(newbackend).lower() in _INLINE:
                # `%matplotlib inline`, or pyplot's first figure.
                newbackend = "agg"
                sys.modules["matplotlib"].interactive(False)
            switch(newbackend)

        for wrapper, original in ((show_later, show), (switch_backend, switch)):
            wrapper.__name__, wrapper.__doc__ = original.__name__, original.__doc__
        pyplot.show, pyplot.switch_backend = show_later, switch_backend
        if self._is_active():
            # Whatever the run has chosen, the notebook's is the environment's, and interactive.
            self._adopt(pyplot, (os.environ.get("MPLBACKEND") or _INLINE[1], True))

    def begin(self) -> None:
        """A run of the service begins: no figure is open, and Agg draws."""
        pyplot = _pyplot()
        if pyplot is not None:
            # Where the user has broken it, he will be told when he uses it.
            with contextlib.suppress(Exception):
                pyplot.close("all")
                self._adopt(pyplot, None)

    def open_figures(self) -> list[Any]:
        """The figures that are open in pyplot."""
        pyplot = _pyplot()
        return [] if pyplot is None else [pyplot.figure(number) for number in pyplot.get_fignums()]

    def close(self) -> None:
        """Closes all figures."""
        pyplot = _pyplot()
        if pyplot is not None:
            with contextlib.suppress(Exception):
                pyplot.close("all")

    def hand_back(self) -> None:
        """Other code is about to run: the backend is what it was."""
        pyplot = _pyplot()
        if self._before is None or pyplot is None:
            return
        (backend, interactive), self._before = self._before, None
        pyplot.switch_backend(backend)
        if backend.lower() in _INLINE:
            # It does so itself when it is imported as the backend, but a run may have imported it.
            inline = sys.modules["matplotlib_inline.backend_inline"]
            inline.configure_inline_support(self._shell, backend)
        sys.modules["matplotlib"].interactive(interactive)

    def _adopt(self, pyplot: Any, before: tuple[str, bool] | None) -> None:
        matplotlib = sys.modules["matplotlib"]
        # Not by `rcParams[...]`, which would choose a backend where none has been chosen yet.
        current = dict.__getitem__(matplotlib.rcParams, "backend")
        if self._before is None:
            found = current if isinstance(current, str) else _INLINE[1]
            # The inline backend makes pyplot interactive when it is imported, which may not have been.
            is_to_come = found.lower() in _INLINE and "matplotlib_inline.backend_inline" not in sys.modules
            self._before = before or (found, is_to_come or matplotlib.is_interactive())
        if not isinstance(current, str) or current.lower() != "agg":
            pyplot.switch_backend("agg")
        # In interactive mode each change of a figure would draw it.
        matplotlib.interactive(False)


def _pyplot() -> Any:
    return sys.modules.get("matplotlib.pyplot")
