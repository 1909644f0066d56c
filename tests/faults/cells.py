"""The cells that are run, and the verdict on what a look at their variables has shown.

Each step has a number that is never given twice, and brings all variables from one number to the next: by
assignment, in place, through an alias, through a view. So every variable alone tells which step it is of,
and a state is whole only when all tell the same.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias

NAMES: Final = ("n", "whole", "view", "part", "table", "alias", "trail", "own", "noise", "lines")

Seen: TypeAlias = dict[str, int | str | None]
"""By variable: the step it is of, None where there is none of that name, or what is wrong with it."""

# What a cell defines anew each time is part of what is saved too.
_DEFINITIONS = """\
import json, random
import numpy as np
class Own:
    def twice(self): return 2 * self.value
def spot(k): return 1 + k * 7919 % (len(part) - 1)
def set_up(size):
    global n, whole, view, part, table, alias, trail, own, lines
    n, trail, own = 0, [], Own()
    whole, part = np.zeros(size), -1.0 - np.arange(size)
    view = whole[size // 4 : size // 2]
    table = alias = {'whole': whole}
    lines = [f'line {number}' for number in range(size // 16)]
def step(k):
    global n, noise
    whole[:] = k * np.arange(1.0, len(whole) + 1)
    view[0] = -k
    part[0] = part[spot(k)] = k
    n = table['n'] = own.value = k
    alias['twice'] = 2 * k
    trail.append(k)
    lines[0] = lines[1 + k % (len(lines) - 1)] = str(k)
    noise = random.Random(k).randbytes(30_000)
def of_whole():
    k, middle = int(whole[0]), len(whole) // 4
    differs = np.flatnonzero(whole != k * np.arange(1.0, len(whole) + 1)).tolist()
    return k if differs == [middle] and whole[middle] == -k else 'mixed'
def of_view():
    k = int(-view[0])
    whole_too = np.shares_memory(view, whole) if 'whole' in globals() else True
    return k if whole_too and (view[1:] == k * (len(view) + np.arange(2.0, len(view) + 1))).all() else 'apart'
def of_part():
    k, steps = int(part.max()), [0, *trail]
    at = np.flatnonzero(part != -1.0 - np.arange(len(part)))
    return k if part[0] == part[spot(k)] == k and np.isin(part[at], steps).all() else 'mixed'
def of_table():
    k = table['n']
    return k if table['twice'] == 2 * k and table['whole'] is whole else 'mixed'
def of_trail(): return trail[-1]
def of_own(): return own.value if own.twice() == 2 * own.value else 'mixed'
def of_noise(): return n if noise == random.Random(n).randbytes(30_000) else 'mixed'
def of_lines():
    k, steps = int(lines[0]), {str(step) for step in trail}
    return k if all(line == f'line {at}' or line in steps for at, line in enumerate(lines)) else 'mixed'
def of_alias(): return table['n'] if alias is table else 'apart'
def of_n(): return n
def look():
    seen = {}
    for name in NAMES:
        try:
            seen[name] = globals()['of_' + name]() if name in globals() else None
        except Exception as error:
            seen[name] = f'{type(error).__name__}: {error}'
    return seen
print(json.dumps([look(), trail[-200:] if 'trail' in globals() else []]))
""".replace("NAMES", repr(NAMES))

LOOK: Final = _DEFINITIONS
"""Shows the variables and leaves them alone."""

CONTROL: Final = "n += 1"
"""Makes a mixture of two states, by hand: it must be seen."""


def step(number: int, size: int) -> str:
    """Shows the variables, then makes the state `number`; new arrays have `size` numbers."""
    begin = f"if any(name not in globals() for name in {NAMES!r}): set_up({size})"
    return f"{_DEFINITIONS}{begin}\nstep({number})"


def shown(stdout: str) -> tuple[Seen, list[int]]:
    """What a cell has shown: the variables, and the last steps that led to them."""
    seen, trail = json.loads(stdout.splitlines()[0])
    return seen, trail


@dataclass
class Model:
    """What must be there, of one notebook."""

    live: int = 0
    """The newest step that ended well: what is there as long as its worker lives."""
    last: int = 0
    """The newest step that was begun."""
    saved: int = 0
    """The newest step of which a checkpoint is known to be complete."""
    acknowledged: list[int] = field(default_factory=list)
    """Those whose checkpoints an Outcome has named: all that comes later stands on them."""

    forgotten: int = 0
    """The newest step when all was lost, and that was told."""

    def find_saved(self, number: int) -> None:
        """The store has a complete checkpoint of this step."""
        if number > self.forgotten:
            self.saved = max(self.saved, number)

    def acknowledge(self, number: int) -> None:
        """An Outcome says that this step is saved."""
        self.acknowledged.append(number)
        self.saved = max(self.saved, number)

    def begin_anew(self) -> None:
        """All is lost, and that was told."""
        self.forgotten = self.last
        self.live = self.saved = 0
        self.acknowledged.clear()


@dataclass(frozen=True)
class Verdict:
    """On one look. `kind` is a key of the counts; `detail` says what was seen."""

    kind: str
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether it may be so."""
        return self.kind not in BROKEN


BROKEN: Final = (
    "hung",
    "no cell runs any more",
    "mixture",
    "ran twice",
    "unnamed loss",
    "older than the newest checkpoint",
    "never was",
    "told as lost, and there",
    "changed while alive",
    "back to the newest checkpoint, not told",
    "no checkpoint yet, loss not told",
)


def judge(seen: Seen, trail: list[int], told: str, model: Model, *, alive: bool) -> Verdict:
    """Whether a look shows what may be there.

    `told` is all that was said since the last look. `alive` says that the worker is that of the last look.
    """
    if trail != sorted(set(trail)):
        return Verdict("ran twice", f"{trail} {seen} {model}")
    detail = f"{seen} {trail[-5:]} {model} told={told!r}"
    lost = re.search(r"is lost, by (?:execution |\d+ executions, )step-(\d+)", told)
    if lost is not None and int(lost[1]) in trail:
        return Verdict("told as lost, and there", detail)
    there = {what for what in seen.values() if isinstance(what, int)}
    unnamed = [name for name, what in seen.items() if not isinstance(what, int) and not _named(name, told)]
    if len(there) > 1 or any(seen[name] is not None for name in unnamed):
        return Verdict("mixture", detail)
    if not there:
        return _nothing(unnamed, told, model, detail)
    [number] = there
    if unnamed:
        return Verdict("unnamed loss", detail)
    if number > model.last:
        return Verdict("never was", detail)
    if number <= model.forgotten:
        return Verdict("back after it was given up", detail)
    if alive and number != model.live:
        return Verdict("changed while alive", detail)
    if number < model.saved:
        return Verdict("fallen back, told" if told else "older than the newest checkpoint", detail)
    if len(seen) > sum(isinstance(what, int) for what in seen.values()):
        return Verdict("lost in part, by name", detail)
    if missing := _not_on_the_way(trail, model):
        return Verdict("mixture", f"without the steps {missing}: {detail}")
    if number < model.live:
        return Verdict(f"back to the newest checkpoint, {_word(told)}", detail)
    return Verdict("as it was")


def _nothing(unnamed: list[str], told: str, model: Model, detail: str) -> Verdict:
    if model.live == model.saved == 0:
        return Verdict("nothing yet")
    if model.saved == 0:
        return Verdict(f"no checkpoint yet, loss {_word(told)}", detail)
    told_whole = "could not be loaded" in told or "load the saved variables" in told
    return Verdict("unnamed loss" if unnamed and not told_whole else "lost by name", detail)


def _word(told: str) -> str:
    return "told" if told else "not told"


def _named(name: str, told: str) -> bool:
    return re.search(rf"\b{name}\b", told) is not None


def _not_on_the_way(trail: list[int], model: Model) -> list[int]:
    """Acknowledged steps that the state does not stand on, among those that it still shows."""
    return [number for number in model.acknowledged if trail and number >= trail[0] and number not in trail]
