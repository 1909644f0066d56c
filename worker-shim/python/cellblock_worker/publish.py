"""Display and result as frames, in the moment in which they happen."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from IPython.core import formatters
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.formatters import DisplayFormatter

from . import bundle as bundles
from .attribution import current_execution
from .channel import Channel
from .widgets_support import Views, as_text, is_within_output

TEXT = "text/plain"

# What has no methods for displays, and cannot be given any.
_PLAIN = frozenset((bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, type(None)))
_IPYTHONS = frozenset(
    kind
    for kind in vars(formatters).values()
    if isinstance(kind, type) and issubclass(kind, formatters.BaseFormatter)
)

# Jupyter's display ids go into meta.
DISPLAY_ID_CHARACTERS = 1_000


class Outputs:
    """Sends outputs of the Execution that is current where they are made."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.widgets = Views(self._update)

    @property
    def is_open(self) -> bool:
        """False in a forked child."""
        return self._channel.is_open

    def send(self, output: Any, payload: bytes = b"") -> None:
        """One `Output`."""
        if self.widgets.is_behind:
            self.widgets.catch_up()
        self._channel.send({"output": {"execution": current_execution(), "output": output}}, payload)

    def send_bundle(self, data: Mapping[str, Any], metadata: Mapping[str, Any] | None, rest: Any) -> None:
        """A bundle: `rest` makes the `Output` from its wire form."""
        if not self._channel.is_open:
            # A forked child has no frames: what can be shown is text.
            if "text/plain" in data:
                print(data["text/plain"])
            return
        encoded = bundles.encode(data, metadata)
        self.send(rest(encoded.wire()), encoded.payload)
        for sentence in encoded.degraded:
            self.notice(sentence)

    def display(
        self,
        data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None,
        display_id: str | None,
        update: bool,
    ) -> None:
        """A `Display`."""
        self.send_bundle(
            data,
            metadata,
            lambda wire: {"display": {"bundle": wire, "display_id": display_id, "update": update}},
        )

    def notice(self, sentence: str) -> None:
        """Says that an output is less than what was asked for."""
        self.send({"notice": {"topic": "degraded", "text": sentence, "names": []}})

    def _update(self, data: Mapping[str, Any], display_id: str) -> None:
        if self.is_open:
            _flush_user_streams()
            self.display(data, None, display_id, update=True)


class Formatter(DisplayFormatter):  # type: ignore[misc]
    """Asks one formatter for a plain value, not twelve: half of what showing a number costs."""

    def format(self, obj: Any, include: Any = None, exclude: Any = None) -> Any:
        if type(obj) not in _PLAIN or include or exclude or self._is_special(obj):
            return super().format(obj, include, exclude)
        text = self.formatters[TEXT](obj)
        return ({} if text is None else {TEXT: text}), {}

    def _is_special(self, obj: Any) -> bool:
        """Whether somebody (SymPy, a user) has registered more than text for this value or its type."""
        kinds = type(obj).__mro__
        others = [formatter for mime, formatter in self.formatters.items() if mime != TEXT]
        for formatter in (self.ipython_display_formatter, self.mimebundle_formatter, *others):
            if type(formatter) not in _IPYTHONS or id(obj) in formatter.singleton_printers:
                return True
            types, deferred = formatter.type_printers, formatter.deferred_printers
            if any(kind in types for kind in kinds):
                return True
            if deferred and any((kind.__module__, kind.__name__) in deferred for kind in kinds):
                return True
        return TEXT not in self.formatters


class Publisher(DisplayPublisher):  # type: ignore[misc]
    """`display()`, `update_display()`, `clear_output()`."""

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        source: Any = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **_: Any,
    ) -> None:
        self._validate_data(data, metadata)
        _flush_user_streams()
        display_id = (transient or {}).get("display_id")
        shown = None if display_id is None else str(display_id)[:DISPLAY_ID_CHARACTERS]
        outputs: Outputs = self.shell.outputs
        data, shown = outputs.widgets.display(data, shown)
        outputs.display(data, metadata, shown, bool(update))

    def clear_output(self, wait: bool = False) -> None:
        if is_within_output():
            # Of the widget, whose output stands among the cell's: those must not go with it.
            return
        _flush_user_streams()
        self.shell.outputs.send({"clear_output": {"wait": bool(wait)}})


class ResultHook(DisplayHook):  # type: ignore[misc]
    """The value of the last expression."""

    # False: the Execution asked for no echo.
    echo = True
    # Set while representations are made: an exception then is the formatter's, not the cell's.
    formatting = False

    def write_output_prompt(self) -> None:
        pass

    def compute_format_data(self, result: Any) -> Any:
        if not self.echo:
            return {}, {}
        self.formatting = True
        try:
            return super().compute_format_data(result)
        finally:
            self.formatting = False

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        _flush_user_streams()
        count = self.prompt_count
        self.shell.outputs.send_bundle(
            as_text(format_dict),
            md_dict,
            lambda wire: {"result": {"bundle": wire, "execution_count": max(count, 0)}},
        )

    def log_output(self, format_dict: dict[str, Any]) -> None:
        # Not the base class's copies in the history: they are never bounded. %logstart still works.
        if self.shell._logger_is_on() and "text/plain" in format_dict:
            self.shell.logger.log_write(format_dict["text/plain"], "output")

    def finish_displayhook(self) -> None:
        self._is_active = False


def _flush_user_streams() -> None:
    # User code may have put something of its own there that ends in our streams.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
