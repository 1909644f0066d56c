"""The cells of chaos: what they do, how they may end when nobody touches them, what they print.

All show the variables as they find them first, then append their number to `trail` and set what goes with
it, in one step that no signal can tear apart.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .model import KEPT, Seen

LIMITS: Final = """
[limits]
memory_bytes = 402_653_184
processes = 48
workspace_bytes = 16_777_216
tmp_bytes = 33_554_432
input_ms = 120_000
interrupt_grace_ms = 2_000
"""

_PRELUDE: Final = f"""\
import json, os, sys, time
def chaos_value(name, k, c=None):
    if name == 'a': return k
    if name == 'b': return [f'{{k}}/{{at}}' for at in range(60)]
    if name == 'c': return bytearray(k.to_bytes(4, 'big') * (4096 << k % 4))
    return {{'k': k, 'c': c}}
def chaos_owner(name):
    value = globals()[name]
    if name == 'a': k = value
    elif name == 'b': k = int(value[0].split('/')[0])
    elif name == 'c': k = int.from_bytes(value[:4], 'big')
    else: k = value['k']
    c = globals().get('c')
    is_right = value == chaos_value(name, k, c) and (name != 'd' or value['c'] is c)
    return k if is_right else f'{{k}}, but not like it'
def chaos_step(k):
    found = globals().get('trail', ())
    seen = [found[-{KEPT}:], len(found), {{name: chaos_owner(name) for name in 'abcd' if name in globals()}}]
    if k:
        new = {{'trail': (*found, k), 'a': k}}
        if k % 2: new['b'] = chaos_value('b', k)
        if k % 3 == 0:
            new['c'] = chaos_value('c', k)
            new['d'] = chaos_value('d', k, new['c'])
        globals().update(new)
    return '#' + json.dumps(seen)
"""


@dataclass(frozen=True)
class Kind:
    """A sort of cell."""

    name: str
    weight: int
    body: str
    """Its code after the step; `K` is its number."""
    ends: tuple[str, ...] = ("ok",)
    """How it may end when nobody touches its worker."""
    text: Callable[[int], str] | None = lambda number: ""
    """What it prints after the first line; None when that is not known."""
    wall_seconds: float | None = None
    transactional: bool = False
    asks: bool = False
    dies: bool = False
    """The worker ends in it."""
    cancels: bool = False
    """Its client ends it, once it runs."""


def _lines(number: int) -> str:
    return "".join(f"{number}:{at}:{'x' * 90}\n" for at in range(_line_count(number)))


def _line_count(number: int) -> int:
    return 2_000 + number % 7 * 6_000


KINDS: Final = (
    Kind("fast", 30, "print(K * 2)", text=lambda number: f"{number * 2}\n"),
    Kind(
        "slow",
        8,
        "for at in range(12):\n    print(K, at)\n    time.sleep(0.08)",
        text=lambda number: "".join(f"{number} {at}\n" for at in range(12)),
    ),
    Kind(
        "huge",
        5,
        "for at in range(2_000 + K % 7 * 6_000): print(f'{K}:{at}:' + 'x' * 90)",
        text=_lines,
    ),
    Kind("display", 4, "from IPython.display import HTML, display\ndisplay(HTML(f'<b>{K}</b>'))\nK"),
    Kind("raise", 6, "raise ValueError(K)", ends=("error",)),
    Kind("exit", 3, "sys.stdout.flush()\nos._exit(3)", ends=("worker_died",), dies=True),
    Kind("segfault", 3, "import ctypes\nctypes.string_at(0)", ends=("worker_died",), dies=True, text=None),
    Kind(
        "allocate",
        2,
        "def chaos_eat():\n    eaten = []\n    while True: eaten.append(b'x' * (8 << 20))\nchaos_eat()",
        ends=("limit_hit", "error", "worker_died"),
        text=None,
    ),
    Kind(
        "fork",
        4,
        "import subprocess\n"
        "chaos_pids = []\n"
        "for _ in range(5):\n"
        "    chaos_pid = os.fork()\n"
        "    if not chaos_pid:\n"
        "        time.sleep(0.05)\n"
        "        os._exit(0)\n"
        "    chaos_pids.append(chaos_pid)\n"
        "for chaos_pid in chaos_pids: os.waitpid(chaos_pid, 0)\n"
        "print(subprocess.run(['/bin/true']).returncode)",
        text=lambda number: "0\n",
    ),
    Kind(
        "fork bomb",
        2,
        "def chaos_bomb():\n"
        "    pids = []\n"
        "    try:\n"
        "        for _ in range(200):\n"
        "            pid = os.fork()\n"
        "            if not pid:\n"
        "                time.sleep(60)\n"
        "                os._exit(0)\n"
        "            pids.append(pid)\n"
        "    finally:\n"
        "        for pid in pids:\n"
        "            os.kill(pid, 9)\n"
        "            os.waitpid(pid, 0)\n"
        "chaos_bomb()",
        ends=("limit_hit", "error"),
        text=None,
    ),
    Kind(
        "thread", 2, "import threading\nthreading.Thread(target=time.sleep, args=(1,), daemon=True).start()"
    ),
    Kind("time out", 3, "while True: time.sleep(0.01)", ends=("timed_out",), wall_seconds=1.0),
    Kind(
        "cancel",
        4,
        "print('runs')\nwhile True: time.sleep(0.01)",
        ends=("interrupted", "timed_out", "cancelled"),
        text=lambda number: "runs\n",
        wall_seconds=10.0,
        cancels=True,
    ),
    Kind("transaction", 3, "print(K)", text=lambda number: f"{number}\n", transactional=True),
    Kind("rolled back", 3, "c = None\nraise ValueError(K)", ends=("error",), transactional=True),
    Kind("input", 4, "print(input('?'))", text=lambda number: f"{number}\n", asks=True),
    Kind("file", 3, "with open(f'file{K % 5}', 'w') as file: file.write('x' * 200_000)"),
)

LOOK: Final = Kind("look", 0, "")
BY_NAME: Final = {kind.name: kind for kind in KINDS}


def draw(choice: random.Random) -> Kind:
    """One of them."""
    return choice.choices(KINDS, [kind.weight for kind in KINDS])[0]


def code(kind: Kind, number: int) -> str:
    """The code of a cell; that of a look leaves the variables alone."""
    step = 0 if kind is LOOK else number
    return f"{_PRELUDE}K = {number}\nprint(chaos_step({step}))\n{kind.body}"


def split(stdout: str) -> tuple[Seen | None, str]:
    """What a cell has found, when it came so far, and what it has printed after that."""
    first, newline, rest = stdout.partition("\n")
    if not first.startswith("#"):
        return None, stdout
    if not newline:
        # Whoever has printed it has died in the middle of the line.
        return None, ""
    trail, total, owners = json.loads(first[1:])
    return Seen(tuple(trail), total, owners), rest
