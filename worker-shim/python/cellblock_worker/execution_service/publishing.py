"""Where IPython's display system meets the service: what is displayed in a run goes through Capture.

Everything passes there that user code or a library displays, whichever `display` it has got hold of. Outside
of runs nothing is different.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cellblock_worker.widgets_support import is_within_output

from .capture import Capture

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell


def install(shell: Shell, capture: Capture) -> None:
    """From now on runs of the service are captured."""
    # In the instances: users register with this formatter, and others hold on to these outputs.
    formatter, publisher, outputs = shell.display_formatter, shell.display_pub, shell.outputs
    format_, clear, display = formatter.format, publisher.clear_output, outputs.display

    def format_or_capture(obj: Any, include: Any = None, exclude: Any = None) -> Any:
        if include or exclude or shell.displayhook.formatting or not capture.is_on():
            return format_(obj, include=include, exclude=exclude)
        captured = capture.captured(obj)
        return ({}, {}) if captured is None else (captured, {})

    def clear_and_forget(wait: bool = False) -> None:
        clear(wait)
        if capture.is_on() and not is_within_output():
            capture.forget_displays()

    def display_or_capture(
        data: Mapping[str, Any], metadata: Mapping[str, Any] | None, display_id: str | None, update: bool
    ) -> None:
        if not (capture.is_on() and capture.publish(data, metadata, display_id, update)):
            display(data, metadata, display_id, update)

    formatter.format = format_or_capture  # type: ignore[method-assign]
    publisher.clear_output = clear_and_forget
    outputs.display = display_or_capture  # type: ignore[method-assign]


def replace_display(display: Callable[..., Any]) -> None:
    """Makes it what `from IPython.display import display` gives."""
    for module in ("IPython.display", "IPython.core.display_functions"):
        vars(sys.modules[module])["display"] = display
    vars(builtins)["display"] = display
