"""What is counted, what is sent, and what has been read of it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, field

from cellblock import Notice, Outcome, Stream
from cellblock._requests import Checkpointing

from . import cells, model
from .cells import Kind
from .model import Applied


@dataclass
class Counts:
    """What was done and seen; one for all notebooks."""

    ends: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    did: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    daemon_kills: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    """When cellblockd was killed, and when it was back."""
    slowest_seconds: float = 0.0
    slowest: str = ""
    violations: list[str] = field(default_factory=list)
    rarities: list[str] = field(default_factory=list)
    """What may be, and whose cause somebody should know."""
    guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, counter: Counter[str], what: str) -> None:
        """One more."""
        with self.guard:
            counter[what] += 1

    def took(self, seconds: float, what: str) -> None:
        """How long somebody has waited, and for what."""
        with self.guard:
            if seconds > self.slowest_seconds:
                self.slowest_seconds, self.slowest = seconds, what


@dataclass(frozen=True)
class Cell:
    """What is sent, and after how many outputs its client goes away; before it is accepted when negative."""

    kind: Kind
    checkpoint: Checkpointing | None = None
    leave_after: int | None = None


@dataclass
class Record:
    """One Execution, as far as anybody has read it."""

    number: int
    kind: Kind
    begun: float
    accepted: bool = False
    answered: bool = False
    """Somebody has answered its input, or cancelled it."""
    reading: model.Reading = field(default_factory=model.Reading)
    streams: dict[int, Stream] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    outcome: Outcome | None = None

    @property
    def id(self) -> str:
        """Its name."""
        return f"cell-{self.number}"

    @property
    def stdout(self) -> str:
        """What of its text was read."""
        streams = [self.streams[seq] for seq in sorted(self.streams)]
        return b"".join(s.data for s in streams if s.name == "stdout").decode("utf-8", "replace")

    def applied(self, header_seen: bool) -> Applied:
        """What it has done to the variables; `header_seen` says that it has begun."""
        outcome = self.outcome
        assert outcome is not None, "it has ended"
        if self.kind is cells.LOOK or outcome.rolled_back or outcome.kind == "cancelled":
            return Applied.NO
        if outcome.lost is None:
            return Applied.YES if header_seen or outcome.ok else Applied.MAYBE
        return Applied.NO if self.kind.dies and outcome.kind in self.kind.ends else Applied.MAYBE
