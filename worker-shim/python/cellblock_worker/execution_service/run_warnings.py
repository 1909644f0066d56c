"""Warnings in runs of the service: all, each time, as Python shows them, with the cell's name and lines."""

from __future__ import annotations

import contextlib
import linecache
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell

# What matplotlib says of a figure that is to be shown where there is no window, and IPython of `sys.exit()`.
_IGNORED = (".*non-interactive.*", ".*FigureCanvasAgg.*", "To exit: use ")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """For what the user has not called: what libraries say of it is no affair of his."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class RunWarnings:
    """The filters of a run, and how cells are called in what is shown."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        # Cells' numbers by Execution.
        self._numbers: dict[str, int] = {}
        self._filters: list[Any] = []
        # What formats warnings without us; ours, while it is in its place.
        self._original = warnings.formatwarning
        self._format = self._formatted

    def begin(self, execution: str, number: int) -> None:
        """A run begins: what earlier ones or the user have silenced is heard."""
        self.end()
        self._numbers[execution] = number
        warnings.simplefilter("always")
        for message in _IGNORED:
            warnings.filterwarnings("ignore", message=message)
        self._filters = list(warnings.filters[: 1 + len(_IGNORED)])
        if warnings.formatwarning is not self._format:
            self._original, warnings.formatwarning = warnings.formatwarning, self._format

    def end(self) -> None:
        """The run's own filters go; what the user has set stays."""
        for item in self._filters:
            if item in warnings.filters:
                warnings.filters.remove(item)  # type: ignore[attr-defined]
        self._filters = []
        if warnings.formatwarning is self._format:
            warnings.formatwarning = self._original

    def _formatted(
        self, message: Any, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        cell = self._shell.compile.cell_of(filename)
        if cell is not None and cell[0] in self._numbers:
            line = linecache.getline(filename, lineno) if line is None else line
            filename, lineno = f"<cell {self._numbers[cell[0]]}>", lineno + cell[1]
        return self._original(message, category, filename, lineno, line)
