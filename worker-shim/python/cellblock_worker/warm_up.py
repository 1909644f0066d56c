"""Walks once, in a zygote, the ways that import or build something when they are first walked.

The cells are run by a shell of its own, whose outputs go nowhere. So there is nothing to take back of what
belongs to a shell: names, history, counters, callbacks. What belongs to the process is put back.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import linecache
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from . import names, queries, variables
from .channel import Channel
from .interrupt import Interrupts
from .native import Native
from .publish import Outputs
from .shell import Shell

# What the worker itself imports where it first needs it.
_OURS = (
    "cellblock_worker.execution_service",
    "cellblock_worker.saving",
    "IPython.core.async_helpers",
    "IPython.utils.capture",
)

# For a package that the zygote has imported, what notebooks begin with.
_CELLS = {
    "IPython": (
        "1 + 1",
        "%who_ls",
        "def f():\n    return 1 / 0\nf()",
        "raise SyntaxError('x')",
        "[1, {'a': 2}]",
    ),
    "numpy": ("import numpy as np\nnp.arange(6.0).reshape(2, 3)", "np.random.rand(2).mean()"),
    "pandas": (
        "import pandas as pd\ndf = pd.DataFrame({'a': [1.5, 2.5], 'b': ['x', 'y'], 'c': [1, 2]})\ndf",
        "df['a']",
        "df.describe()",
        "df.groupby('b')['a'].sum()",
        "df.nothing",
    ),
    "matplotlib.pyplot": (
        "import matplotlib.pyplot as plt\nplt.plot([1, 2], label='a')\nplt.legend()\nplt.show()",
        "fig, ax = plt.subplots()\nax.bar(['a', 'b'], [1, 2])",
    ),
    "plotly.graph_objects": (
        "import plotly.graph_objects as go\nfigure = go.Figure(go.Scatter(y=[1, 2]))\nfigure.show()",
        "figure",
    ),
}

_QUESTIONS: tuple[tuple[Any, str], ...] = (
    ({"complete": {"cursor": 3}}, "pri"),
    ({"inspect": {"cursor": 3, "detail": 0}}, "print"),
    ({"is_complete": {}}, "if x:"),
    ("variables", ""),
)


class _Nowhere(Channel):
    """Frames that nobody receives."""

    def __init__(self, native: Native) -> None:
        super().__init__(native)
        self._open = True

    def mark_flushed(self) -> None:
        pass

    def _send(self, *_: Any, **__: Any) -> None:
        pass


class Rehearsal:
    """The other shell, which is kept for `touch`."""

    def __init__(self, native: Native) -> None:
        self._outputs, self._interrupts = Outputs(_Nowhere(native)), Interrupts(native)
        self._shell: Shell | None = None

    def run(self) -> None:
        """All of it. Whatever fails here fails again, and is told, when a notebook needs it."""
        for module in _OURS:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
        with _pyplot_untouched(), self._in_its_place() as shell:
            for package, cells in _CELLS.items():
                _run(shell, package, cells)
            for query, code in _QUESTIONS:
                queries.answer(shell, query, code)
            found = names.snapshot(shell.user_ns, shell.user_ns_hidden)
            names.changes({}, found, shell.user_ns)
            variables.listing(found, shell.user_ns)

    def touch(self) -> None:
        """In a worker, what most notebooks begin with: the pages that it touches are its own from then on."""
        with self._in_its_place() as shell:
            for package in ("IPython", "pandas"):
                _run(shell, package, _CELLS[package][:1])
        gc.collect()

    @contextlib.contextmanager
    def _in_its_place(self) -> Iterator[Shell]:
        """In the place of the shell that notebooks have; afterwards that one is there again."""
        theirs, outputs, interrupts = Shell.instance(), Shell.outputs, Shell.interrupts
        main, lines = sys.modules["__main__"], set(linecache.cache)
        hooks = sys.displayhook, sys.excepthook
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if self._shell is None:
                    Shell.clear_instance()
                    self._shell = Shell.make(self._outputs, self._interrupts)
                else:
                    Shell.outputs, Shell.interrupts = self._outputs, self._interrupts
                    _put_in_place(self._shell)
                yield self._shell
        finally:
            Shell.outputs, Shell.interrupts = outputs, interrupts
            _put_in_place(theirs)
            sys.modules["__main__"] = main
            sys.displayhook, sys.excepthook = hooks
            for name in ("last_type", "last_value", "last_traceback", "last_exc"):
                vars(sys).pop(name, None)
            for name in linecache.cache.keys() - lines:
                # Lines of cells: the first of a notebook's has the same name.
                if not os.path.exists(name):  # noqa: PTH110
                    del linecache.cache[name]


def _run(shell: Shell, package: str, cells: tuple[str, ...]) -> None:
    if package in sys.modules:
        for cell in cells:
            shell.run_cell(cell, store_history=True)


def _put_in_place(shell: Shell) -> None:
    # What traitlets has no call for: `get_ipython()` and `instance()` find it.
    for kind in Shell._walk_mro():
        kind._instance = shell


@contextlib.contextmanager
def _pyplot_untouched() -> Iterator[None]:
    """As before the first figure: no backend chosen, and none bound to the other shell."""
    pyplot, matplotlib = sys.modules.get("matplotlib.pyplot"), sys.modules.get("matplotlib")
    if pyplot is None or matplotlib is None:
        yield
        return
    # Not through their mappings, whose look at "backend" chooses one.
    settings = [matplotlib.rcParams, matplotlib.rcParamsDefault, matplotlib.rcParamsOrig]
    before = [dict(dict.items(setting)) for setting in settings]
    attributes = dict(vars(pyplot))
    try:
        yield
    finally:
        pyplot.close("all")
        # A font that is kept reads its file when a glyph is drawn, and a fork's file would be another.
        fonts = getattr(sys.modules.get("matplotlib.font_manager"), "_get_font", None)
        if fonts is not None:
            fonts.cache_clear()
        for name in vars(pyplot).keys() - attributes.keys():
            delattr(pyplot, name)
        vars(pyplot).update(attributes)
        for setting, old in zip(settings, before, strict=True):
            dict.clear(setting)
            dict.update(setting, old)
        # It binds itself to the shell when it is imported.
        sys.modules.pop("matplotlib_inline.backend_inline", None)
        config: Any = getattr(sys.modules.get("matplotlib_inline.config"), "InlineBackend", None)
        if config is not None:
            config.clear_instance()
