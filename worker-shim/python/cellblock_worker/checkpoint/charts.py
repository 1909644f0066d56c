"""Plotly's figures: their arrays as arrays. Their own pickling makes text of them, and leaves it at that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .references import loaded

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reducer, Reduction


def reducer_for(cls: type) -> Reducer | None:
    """For figures and their subclasses."""
    figure = loaded("plotly.basedatatypes", "BaseFigure")
    return _reduce_figure if isinstance(figure, type) and issubclass(cls, figure) else None


def _reduce_figure(pickler: GraphPickler, figure: Any) -> Reduction:
    reduction = pickler.ask(figure)
    function, arguments, *state = reduction
    if function is not type(figure) or len(arguments) != 1 or type(arguments[0]) is not dict:
        return reduction
    content = {**arguments[0], "data": figure._data, "layout": figure._layout}
    return (function, (content,), *state)
