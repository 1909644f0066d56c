"""Plotly figures: shown where `show()` or `display()` is called, or found when the run ends; each once.

A figure is known by its identity, whatever it is called. plotly is never imported for this.
"""

from __future__ import annotations

import functools
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from cellblock_worker import names

from .cells import text
from .entries import Plotly
from .hooks import when_there
from .packages import comes_from, loaded_class
from .run_warnings import quietly

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell

# Bounds of the search through the user's names: depth, items of one container, and of all.
DEPTH = 4
ITEMS = 1_000
ALL_ITEMS = 20_000
# Of all when a figure is shown and only its name is wanted.
NAMED_ITEMS = 2_000
NAME_CHARACTERS = 200

_BASE = ("plotly.basedatatypes", "BaseFigure")


def is_figure(obj: Any) -> bool:
    """Whether it is a Plotly figure. Asks nothing of the object itself."""
    return comes_from(obj, *_BASE)


def entry(figure: Any, name: str) -> Plotly:
    """A figure as it is at this moment."""
    with quietly():
        return Plotly(name, figure.to_json())


class Known:
    """Figures that have been shown or could have been seen before; they are kept alive by nobody."""

    def __init__(self) -> None:
        # Figures have no hash. An id is of use only while its figure lives.
        self._references: dict[int, weakref.ref[Any]] = {}

    def __contains__(self, figure: Any) -> bool:
        reference = self._references.get(id(figure))
        return reference is not None and reference() is figure

    def add(self, figure: Any) -> None:
        """From now on it is known."""
        at = id(figure)

        def forget(reference: weakref.ref[Any]) -> None:
            if self._references.get(at) is reference:
                del self._references[at]

        self._references[at] = weakref.ref(figure, forget)


def reachable(shell: Shell, items: int = ALL_ITEMS) -> Iterator[tuple[str, Any]]:
    """The figures that the user's names lead to, also within containers, and how; the nearest first."""
    base = loaded_class(*_BASE)
    if base is None:
        return
    leading = {
        name: value
        for name, value in list(shell.user_ns.items())
        if _is_container(value) or issubclass(type(value), base)
    }
    own = names.snapshot(leading, shell.user_ns_hidden)
    pending: deque[tuple[_Place, Any]] = deque(
        (_Place(None, name, 0), value) for name, value in leading.items() if name in own
    )
    while pending:
        place, value = pending.popleft()
        if not _is_container(value):
            yield str(place), value
        elif place.depth < DEPTH and items > 0:
            try:
                found = list(islice(value.items() if type(value) is dict else enumerate(value), ITEMS))
            except RuntimeError:  # a thread is changing it
                continue
            items -= len(found)
            pending += [
                (_Place(place, key, place.depth + 1), item)
                for key, item in found
                if _is_container(item) or issubclass(type(item), base)
            ]


def name_of(shell: Shell, figure: Any) -> str:
    """What the user calls a figure: a variable, else its place in a container."""
    return next((name for name, found in reachable(shell, NAMED_ITEMS) if found is figure), "figure")


def follow_show(captures: Callable[[Any], bool]) -> None:
    """Every `fig.show()` and `pio.show(fig)` asks `captures` first whether it takes the figure."""

    def wrapped(show: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(show)
        def show_or_capture(fig: Any, *args: Any, **options: Any) -> Any:
            return None if captures(fig) else show(fig, *args, **options)

        return show_or_capture

    def hook(package: Any) -> None:
        own = vars(package)
        if "show" in own:
            own["show"] = wrapped(own["show"])
            return
        # It imports what it consists of when it is asked for; figures ask as well.
        look_up = own["__getattr__"]

        def look_up_or_wrap(name: str) -> Any:
            found = look_up(name)
            return wrapped(found) if name == "show" else found

        own["__getattr__"] = look_up_or_wrap

    when_there("plotly.io", hook)


class _Place(NamedTuple):
    """A name, or a key in a container."""

    container: _Place | None
    key: Any
    depth: int

    def __str__(self) -> str:
        if self.container is None:
            return str(self.key)[:NAME_CHARACTERS]
        return f"{self.container}[{text(self.key, 40, repr)}]"


def _is_container(value: Any) -> bool:
    cls = type(value)
    # `is`, as a metaclass may define `==`.
    return cls is dict or cls is list or cls is tuple
