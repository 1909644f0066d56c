"""Walks once, in a zygote, the ways that import or build something when they are first walked.

It leaves nothing that a notebook could see: no name, no history, no figure, no file.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .shell import Shell

# Imported by others within functions, on the way of a first result, error, figure or question.
_LATE = (
    "IPython.core.async_helpers",
    "IPython.core.completer",
    "IPython.core.oinspect",
    "IPython.core.pylabtools",
    "IPython.core.ultratb",
    "IPython.utils.capture",
    "matplotlib.backends.backend_agg",
    "matplotlib_inline.backend_inline",
    "pandas.io.formats.format",
    "pandas.io.formats.html",
    "pandas.io.formats.string",
    "plotly.io._renderers",
)


def run(shell: Shell) -> None:
    """Whatever fails here fails again, and is told, when a notebook needs it."""
    for module in _LATE:
        if module.partition(".")[0] in sys.modules:
            with contextlib.suppress(Exception):
                importlib.import_module(module)
    ways: tuple[Callable[[Shell], Any], ...] = (_cell, _error, _completion, _frame, _figure, _plotly)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for way in ways:
            with contextlib.suppress(Exception):
                way(shell)


def _cell(shell: Shell) -> None:
    for code in ("1 + 1\n", "%who_ls\n", "a = 1\na\n"):
        shell.compile.ast_parse(shell.transform_cell(code))
    run = shell.run_cell_async("1\n", store_history=False, silent=True, transformed_cell="1\n")
    with contextlib.suppress(StopIteration):
        run.send(None)
    shell.display_formatter.format(1)
    shell.compile.begin()
    shell.last_execution_result = None


def _error(shell: Shell) -> None:
    try:
        raise ValueError("warm")
    except ValueError:
        kind, value, traceback = sys.exc_info()
    shell.InteractiveTB.structured_traceback(kind, value, traceback)


def _completion(shell: Shell) -> None:
    shell.Completer.complete("pri")


def _frame(shell: Shell) -> None:
    pandas = sys.modules["pandas"]
    frame = pandas.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"], "c": [1, 2]})
    shell.display_formatter.format(frame)
    shell.display_formatter.format(frame["a"])
    frame.describe()
    frame.groupby("b")["a"].sum()


def _figure(_shell: Shell) -> None:
    from matplotlib import font_manager
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    figure.subplots().plot([1, 2], label="a")
    figure.savefig(io.BytesIO(), format="png")
    # A font that is kept reads its file when a glyph is drawn, and a fork's file would be another.
    del figure
    getattr(font_manager, "_get_font").cache_clear()  # noqa: B009
    gc.collect()


def _plotly(_shell: Shell) -> None:
    graph = sys.modules["plotly.graph_objects"]
    graph.Figure(graph.Scatter(y=[1, 2])).to_plotly_json()
