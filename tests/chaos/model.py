"""What must be true of one notebook whatever is killed; pure, so that it can be tested by itself.

Each cell has a number that is never given twice, and appends it to the variable `trail`. So a state of the
variables is a set of numbers, and it can be said of each state whether it may be there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

KEPT: Final = 200
"""Numbers that a cell shows of a trail: older ones are not looked at any more."""


class Applied(Enum):
    """What a cell that has ended has done to the variables."""

    YES = "yes"
    MAYBE = "maybe"
    NO = "no"


@dataclass(frozen=True)
class Seen:
    """The variables as a cell has found them."""

    trail: tuple[int, ...] = ()
    """The last numbers, oldest first."""
    total: int = 0
    """How many there are in all."""
    owners: Mapping[str, int | str] = field(default_factory=dict)
    """By variable: of which number its value is, or what is wrong with it."""

    @property
    def is_whole(self) -> bool:
        """Whether all of the trail is shown."""
        return self.total == len(self.trail)


@dataclass(frozen=True)
class Finding:
    """What a look has shown; `kind` is a key of the counts."""

    kind: str
    detail: str = ""
    is_violation: bool = False
    is_rare: bool = False
    """Somebody should look into how it came to be."""


def owners(trail: Iterable[int]) -> dict[str, int]:
    """By variable, the number that has set it last: what cells must agree with."""
    found: dict[str, int] = {}
    for number in trail:
        found.update(dict.fromkeys(set_by(number), number))
    return found


def set_by(number: int) -> tuple[str, ...]:
    """The variables that a number sets."""
    return ("a", *(("b",) if number % 2 else ()), *(("c", "d") if number % 3 == 0 else ()))


def told_as_lost(told: Iterable[str]) -> set[int]:
    """The number that a notice names, which is the last of those that are lost."""
    found = (re.search(r"is lost, by (?:execution |\d+ executions, )cell-(\d+)", text) for text in told)
    return {int(match[1]) for match in found if match is not None}


@dataclass
class Notebook:
    """The variables of one notebook."""

    expected: set[int] = field(default_factory=set)
    """Numbers that are there as long as the worker lives."""
    maybe: set[int] = field(default_factory=set)
    """Numbers of which nobody was told whether they are there."""
    never: set[int] = field(default_factory=set)
    """Numbers that must not be there: cancelled, rolled back, of a worker that died in them."""
    acknowledged: set[int] = field(default_factory=set)
    """Numbers that were told as saved: they come back whatever happens."""
    told: list[str] = field(default_factory=list)
    """What was said of losses since the last look."""
    excuses: list[str] = field(default_factory=list)
    """Why the worker may have gone since the last look."""
    _void: list[tuple[int, int]] = field(default_factory=list)
    """Numbers from, up to: given up on purpose, so that a late word on their checkpoints says nothing."""

    def concluded(self, number: int, applied: Applied) -> None:
        """A cell has ended."""
        match applied:
            case Applied.YES:
                self.expected.add(number)
            case Applied.MAYBE:
                self.maybe.add(number)
            case Applied.NO:
                self.never.add(number)

    def acknowledge(self, number: int) -> None:
        """Somebody was told that the variables after this number are saved."""
        if number in self.never or any(low <= number <= high for low, high in self._void):
            return
        self.acknowledged.add(number)

    def tell(self, what: str) -> None:
        """Something was said of a loss."""
        self.told.append(what)

    def excuse(self, why: str) -> None:
        """The worker may be another one now."""
        self.excuses.append(why)

    def give_up(self, kept: int, last: int, *, is_sure: bool) -> None:
        """A user wants the state after `kept` back (0: none at all); `last` is the newest number.

        When it is not sure that it was done, both states may be there.
        """
        self._void.append((kept + 1, last))
        self.acknowledged = {number for number in self.acknowledged if number <= kept}
        gone = {number for number in self.expected if number > kept}
        self.expected -= gone
        self.maybe |= gone
        if not kept:
            self.maybe |= self.expected
            self.expected.clear()
            self.acknowledged.clear()
        self.excuse("another state was wanted")
        self.tell("another state was wanted" if is_sure else "another state may have been wanted")

    def look(self, seen: Seen) -> Finding:
        """Judges what a cell has found, and goes on from there."""
        finding = self._judge(seen)
        there = set(seen.trail)
        floor = 0 if seen.is_whole or not seen.trail else seen.trail[0]
        # What was told as lost is not waited for; what is older than what is shown is not known any more.
        lost = {number for number in self.acknowledged | self.expected if number >= floor} - there
        self.maybe |= lost
        self.acknowledged -= lost
        self.expected = there | {number for number in self.expected if number < floor}
        self.told.clear()
        self.excuses.clear()
        return finding

    def _judge(self, seen: Seen) -> Finding:
        there = set(seen.trail)
        detail = (
            f"trail …{list(seen.trail[-12:])} of {seen.total}, owners {dict(seen.owners)}, "
            f"told {self.told}, excuses {self.excuses}"
        )

        def broken(kind: str, which: object = "") -> Finding:
            return Finding(kind, f"{which} {detail}".strip(), is_violation=True)

        if len(there) != len(seen.trail):
            twice = sorted({number for number in there if seen.trail.count(number) > 1})
            return broken("ran twice", twice)
        if wrong := there & told_as_lost(self.told):
            return broken("told as lost, and there", sorted(wrong))
        if wrong := there & self.never:
            return broken("there, though it was cancelled, rolled back or died", sorted(wrong))
        if unknown := there - self.expected - self.maybe:
            return broken("there, though it was never run", sorted(unknown))
        if seen.is_whole and dict(seen.owners) != owners(seen.trail):
            return broken("a mixture of states", f"should be {owners(seen.trail)}")
        if bad := {name: owner for name, owner in seen.owners.items() if isinstance(owner, str)}:
            return broken("a wrong value", bad)
        floor = 0 if seen.is_whole or not seen.trail else seen.trail[0]
        if missing := {number for number in self.acknowledged if number >= floor} - there:
            if not self.told:
                return broken("acknowledged and gone, not told", sorted(missing))
            return Finding("acknowledged and gone, told", f"{sorted(missing)} {detail}", is_rare=True)
        missing = {number for number in self.expected if number >= floor} - there
        if not missing:
            return Finding("as it was" if not self.excuses else "as it was, after a fault")
        if not self.excuses:
            return broken("fallen back, though nobody did anything", sorted(missing))
        if self.told:
            return Finding("back to a checkpoint, told", detail)
        return broken("back to a checkpoint, not told", sorted(missing))


@dataclass
class Reading:
    """All that anybody has read of one Execution: it must be the same for all."""

    digests: dict[int, str] = field(default_factory=dict)
    """By number: what the output was, in short."""
    marks: set[int] = field(default_factory=set)
    """Numbers of outputs that say that something is missing."""
    next_seq: int = 0
    """Of the reading that goes on."""
    outcome: str | None = None
    outputs: int | None = None
    faults: list[str] = field(default_factory=list)

    def begin(self, from_seq: int) -> None:
        """Somebody begins to read."""
        self.next_seq = from_seq

    def output(self, seq: int, content: bytes, *, is_mark: bool) -> None:
        """Takes what came next."""
        if seq < self.next_seq:
            self.faults.append(f"output {seq} came twice: {self.next_seq} was next")
        elif seq > self.next_seq and not is_mark:
            self.faults.append(f"output {seq} came, {self.next_seq} was next, and no mark of a gap")
        self.next_seq = seq + 1
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        if is_mark:
            # Later readers may find more missing than earlier ones did.
            self.marks.add(seq)
        elif (known := self.digests.get(seq)) is None:
            self.digests[seq] = digest
        elif known != digest:
            self.faults.append(f"output {seq} is another than the one that was read before")

    def end(self, outcome: str, outputs: int) -> None:
        """The Outcome came."""
        if outputs != self.next_seq:
            self.faults.append(f"{outputs} outputs are told, {self.next_seq} came")
        if self.outcome is None:
            self.outcome, self.outputs = outcome, outputs
        elif outcome != self.outcome:
            self.faults.append(f"two Outcomes: {self.outcome} and {outcome}")

    @property
    def is_complete(self) -> bool:
        """Whether each output was read by somebody, none of them a mark of a gap."""
        return self.outputs is not None and not self.marks and len(self.digests) == self.outputs
