"""What a run of the service displays, converted and sent in the moment in which it happens.

Whether a run is on is asked for whoever displays: a task that an earlier run or other code has started is
not part of this one, and displays as it would without the service.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cellblock_worker.attribution import current_execution

from . import figures, interactive, natural, tables
from .convert import convert, failed
from .entries import Entry, Image, Plotly, Source
from .sending import send

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell


@dataclass
class Showing:
    """A figure that has been shown in this run."""

    # Kept, so that its id is not used again.
    figure: Any
    digest: bytes
    label: str | None
    display_id: str


@dataclass
class Run:
    """The run that is on."""

    execution: str
    # False: it is run for its side effects only.
    captures: bool
    # The DataFrames that there were, by name.
    frames: dict[str, weakref.ref[Any]]
    # How far the default labels had counted.
    numbers: dict[str, int]
    shown: dict[int, Showing] = field(default_factory=dict)
    # Labels by display id, for displays that are updated.
    labels: dict[str, str | None] = field(default_factory=dict)
    # The label for what is about to be displayed, should it come in another form than as `Captured`.
    pending: str | None = None


class Captured(dict[str, Any]):
    """A captured thing on its way through IPython's display system, which takes it for a bundle."""

    def __init__(self, entry: Entry, figure: Any = None) -> None:
        super().__init__(entry.natural())
        self.entry = entry
        # Whose identity tells whether it has been shown.
        self.figure = figure
        self.label: str | None = None

    @property
    def digest(self) -> bytes:
        """The same for figures that look the same."""
        return hashlib.blake2b(b"".join(self.entry.natural().values()), digest_size=16).digest()


class Capture:
    """Converts, labels and sends. It counts the default labels of the notebook."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self.run: Run | None = None
        self.pyplot = figures.Pyplot(shell, self.is_on)
        # Plotly figures that need not be looked for.
        self.known = interactive.Known()
        # Code of others has run since the last run, and may have made some.
        self.other_code_ran = True
        self._numbers: dict[str, int] = {}
        interactive.follow_show(self._take_shown)

    def is_on(self) -> bool:
        """Whether what happens here is part of a run of the service."""
        return self.run is not None and self.run.execution == current_execution()

    def begin(self, *, captures: bool) -> None:
        """A run begins: what is there already is none of its making."""
        if self.other_code_ran:
            self.other_code_ran = False
            self.know_figures()
        frames = {name: weakref.ref(frame) for name, frame in tables.frames_of(self._shell.user_ns)}
        self.run = Run(current_execution(), captures, frames, dict(self._numbers))
        self.pyplot.begin()

    def know_figures(self) -> None:
        """The Plotly figures that there are now are nothing new."""
        for _, figure in interactive.reachable(self._shell):
            self.known.add(figure)

    def forget_displays(self) -> None:
        """What this run has displayed is cleared away: labels are free, and figures may be shown again."""
        if self.run is not None:
            self._numbers = dict(self.run.numbers)
            self.run.labels.clear()
            for showing in self.run.shown.values():
                showing.digest = b""

    def restart_numbers(self) -> None:
        """Default labels begin at 1 again."""
        self._numbers.clear()

    def display(self, obj: Any, label: str | None) -> None:
        """Shows an object with a label."""
        run = self.run
        if run is None:
            return
        if label is not None:
            run.pending = label
        try:
            captured = self.captured(obj)
            if captured is not None:
                captured.label = label
                # Not past the publisher: `%%capture` puts its own in its place.
                self._shell.display_pub.publish(captured, {})
        finally:
            run.pending = None

    def captured(self, obj: Any) -> Captured | None:
        """The bundle of an object; None when there is none, or it has displayed itself."""
        if self.run is None or not self.run.captures:
            return None
        if not interactive.is_figure(obj) and natural.displays_itself(obj):
            try:
                obj._ipython_display_()
            except Exception as failure:
                return Captured(failed(obj, failure))
            return None
        entry = convert(self._shell, obj)
        if isinstance(entry, Plotly):
            return Captured(Plotly(interactive.name_of(self._shell, obj), entry.json), obj)
        if isinstance(entry, Image) and figures.is_savable(obj):
            return Captured(entry, figures.figure_of(obj))
        return Captured(entry)

    def publish(
        self,
        data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None,
        display_id: str | None,
        update: bool,
    ) -> bool:
        """Takes what comes out of IPython's display system; False when a result has no place for it."""
        run = self.run
        if run is None or not run.captures:
            return True
        label, run.pending = run.pending, None
        if not isinstance(data, Captured):
            entry = natural.entry_of(data)
            if entry is None:
                return False
            # What a library shows is not numbered: of its pieces nobody knows what they are.
            data, label = Captured(entry), label or run.labels.get(display_id or "")
            self._show(run, data, label, metadata, display_id, update)
            return True
        explicit = label if data.label is None else data.label
        if data.figure is not None and display_id is None:
            self._show_figure(run, data, explicit, "display")
            return True
        label = explicit or run.labels.get(display_id or "") or self._next_label(data.entry)
        self._show(run, data, label, metadata, display_id, update)
        return True

    def _show(
        self,
        run: Run,
        data: Captured,
        label: str | None,
        metadata: Mapping[str, Any] | None,
        display_id: str | None,
        update: bool,
    ) -> None:
        if display_id is not None:
            run.labels[display_id] = label
            if data.figure is not None:
                self._note(run, data, label, display_id)
        self.send(data.entry, label, "display", metadata, display_id=display_id, update=update)

    def send(
        self,
        entry: Entry,
        label: str | None,
        source: Source,
        metadata: Mapping[str, Any] | None = None,
        *,
        display_id: str | None = None,
        update: bool = False,
    ) -> None:
        """Sends a captured thing."""
        combined = {**(metadata or {}), **(entry.metadata(label, source) or {})}
        parts = entry.parts(label, source)
        send(self._shell.outputs, parts, combined, display_id=display_id, update=update)

    def _take_shown(self, figure: Any) -> bool:
        """`figure.show()` of a Plotly figure."""
        run = self.run
        if run is None or not self.is_on() or not interactive.is_figure(figure):
            return False
        if run.captures:
            entry = interactive.entry(figure, interactive.name_of(self._shell, figure))
            self._show_figure(run, Captured(entry, figure), None, "auto-captured")
        return True

    def _show_figure(self, run: Run, data: Captured, explicit: str | None, source: Source) -> None:
        """Sends a figure, unless this run has shown it as it is now.

        One that was shown without a label may still get one: then it is updated.
        """
        before = run.shown.get(id(data.figure))
        if before is not None and before.digest != data.digest:
            before = None
        if before is not None and (
            source != "display" or (before.label is not None and explicit in (None, before.label))
        ):
            return
        label = self._next_label(data.entry) if explicit is None and source == "display" else explicit
        if before is not None and before.label is None:
            display_id, update = before.display_id, True
        else:
            display_id, update = f"{run.execution}-figure-{len(run.labels) + 1}", False
        run.labels[display_id] = label
        self._note(run, data, label, display_id)
        self.send(data.entry, label, source, display_id=display_id, update=update)

    def _note(self, run: Run, data: Captured, label: str | None, display_id: str) -> None:
        """A figure has been shown, and need not be looked for."""
        if isinstance(data.entry, Plotly):
            self.known.add(data.figure)
        run.shown[id(data.figure)] = Showing(data.figure, data.digest, label, display_id)

    def _next_label(self, entry: Entry) -> str:
        if entry.numbered is None:
            return entry.default
        number = self._numbers[entry.numbered] = self._numbers.get(entry.numbered, 0) + 1
        return f"{entry.numbered} {number}"
