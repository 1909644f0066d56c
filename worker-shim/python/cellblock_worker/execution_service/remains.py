"""What a run leaves behind: new DataFrames, Plotly figures not shown yet, figures still open in pyplot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from . import figures, interactive, tables
from .capture import Capture, Run
from .cells import text
from .entries import Entry, Image, Source

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell

# How long it may take once the run has been interrupted: the shim's patience ends soon after.
SECONDS = 0.5

# What it is called, and what makes it.
Finding = tuple[str, Callable[[], Entry], Source]


def capture_remains(shell: Shell, capture: Capture, *, interrupted: bool) -> None:
    """Sends it. What takes long comes last, and an interrupt ends it."""
    run = capture.run
    if run is None:
        return
    if not run.captures:
        capture.know_figures()
        return
    until = time.monotonic() + SECONDS if interrupted else None
    missing = 0
    for what, make, source in _findings(shell, capture, run):
        if until is not None and time.monotonic() > until:
            missing += 1
            continue
        try:
            capture.send(make(), None, source)
        except KeyboardInterrupt:
            until = 0.0
            missing += 1
        except Exception as failure:
            shell.outputs.notice(f"{what} could not be shown: {type(failure).__name__}: {text(failure, 400)}")
    if missing:
        shell.outputs.notice(
            f"left out, as the run was interrupted: {missing} of the tables and figures it made"
        )


def _findings(shell: Shell, capture: Capture, run: Run) -> Iterator[Finding]:
    for name, frame in tables.frames_of(shell.user_ns):
        if not name.startswith("_"):
            before = run.frames.get(name)
            # By identity: a change in place is no new table.
            if before is None or before() is not frame:
                yield f"variable `{name}`", partial(tables.table, frame, name), "variable"
    for name, figure in interactive.reachable(shell):
        if figure not in capture.known:
            capture.known.add(figure)
            yield f"figure `{name}`", partial(interactive.entry, figure, name), "auto-captured"
    for figure in capture.pyplot.open_figures():
        if id(figure) not in run.shown:
            yield f"figure {figure.number}", partial(_drawn, figure), "auto-captured"


def _drawn(figure: Any) -> Entry:
    return Image(figures.png(figure))
