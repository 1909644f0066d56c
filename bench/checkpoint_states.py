"""The notebooks whose variables are saved: cells that make them, change a little, rewrite all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_ARRAY: Final = "import numpy as np\nx = np.random.default_rng(1).random({count})"
_NUMBERS_IN_MB: Final = 131_072
"""Of eight bytes."""


@dataclass(frozen=True, slots=True)
class State:
    """A notebook."""

    name: str
    cells: tuple[str, ...]
    """They make it; a checkpoint follows each."""
    names: tuple[str, ...]
    """The variables that must come back."""
    change: str
    """A cell that changes one element."""
    first: str
    """An expression that uses what has come back."""
    rewrite: str | None = None
    """A cell that writes to all of it, in place; None where nobody would."""
    array_bytes: int = 0
    """Where it is nothing but one array: so many."""
    rounds: int = 1
    """How often it is made and saved; what is small can be more often."""


def states(quick: bool) -> list[State]:
    """All of them; when it has to be quick, small ones, which say so in their names."""
    megabytes = (1, 2, 8) if quick else (1, 100, 1024)
    return [
        *(_array(count, rounds) for count, rounds in zip(megabytes, (3, 2, 1), strict=True)),
        _frame(20_000 if quick else 2_000_000),
        _objects(10_000 if quick else 1_000_000),
        _many(20 if quick else 200),
        _notebook(2 if quick else 100),
        _unsaved(),
    ]


def _array(megabytes: int, rounds: int) -> State:
    return State(
        "1 GB array" if megabytes == 1024 else f"{megabytes} MB array",
        (_ARRAY.format(count=megabytes * _NUMBERS_IN_MB),),
        ("x",),
        change="x[5] = 1.0",
        first="float(x[0])",
        rewrite="x += 1",
        array_bytes=megabytes << 20,
        rounds=rounds,
    )


def _frame(count: int) -> State:
    table = f"pd.DataFrame(np.random.default_rng(1).random(({count}, 8)), columns=list('abcdefgh'))"
    return State(
        f"{count:,} x 8 frame",
        (f"import numpy as np\nimport pandas as pd\nx = {table}",),
        ("x",),
        change="x.loc[5, 'c'] = 1.0",
        first="float(x.iloc[0, 0])",
        rewrite="x.iloc[:, :] *= 1.01",
    )


def _objects(count: int) -> State:
    return State(
        f"{count:,} small objects",
        (f"x = [{{'i': i, 's': str(i)}} for i in range({count})]",),
        ("x",),
        # A string and not a number: what follows in a pickle then lies elsewhere.
        change="x[500]['s'] = 'changed'",
        first="x[0]['s']",
        rewrite="for one in x: one['i'] += 1\ndel one",
    )


def _many(count: int) -> State:
    kinds = (
        "rng.random(12_500)",
        "[str(n) for n in range(1000)]",
        "{n: n * n for n in range(1000)}",
        "'a word'",
    )
    lines = [f"v{place} = {kinds[place % len(kinds)]}" for place in range(count)]
    every = tuple(f"v{place}" for place in range(count))
    return State(
        f"{count} variables",
        ("\n".join(["import numpy as np", "rng = np.random.default_rng(1)", *lines, "del rng"]),),
        every,
        change="v8[3] = 2.0",
        first="float(v8[3])",
        rewrite="\n".join(f"v{place} += 1" for place in range(0, count, len(kinds))),
    )


def _notebook(megabytes: int) -> State:
    """Twenty cells, after them 200 MB of the 280 that were made are left (or fewer, for a quick run)."""
    count = megabytes * _NUMBERS_IN_MB
    rows = count // 10 * 8 // 10
    cells = (
        "import numpy as np\nimport pandas as pd",
        "x = 1",
        f"a = np.random.default_rng(1).random({count})",
        f"b = np.random.default_rng(2).random({count})",
        "x = 100",
        "a[0] = 5.0",
        "s = float(a.sum())",
        f"df = pd.DataFrame(np.random.default_rng(3).random(({rows}, 10)), columns=list('abcdefghij'))",
        "df['a'] *= 2",
        "m = df.mean()",
        "view = a[:1000]",
        "view[3] = -1.0",
        "same = b",
        "same[7] = 7.0",
        "words = [str(n) for n in range(1000)]; both = {'words': words}",
        "words[10] = 'changed'",
        "pair = [both, both]",
        "c = a[:100_000] + x",
        "del df",
        "total = float(b[7]); del s",
    )
    left = ("x", "a", "b", "m", "view", "same", "words", "both", "pair", "c", "total")
    return State(
        "20-cell notebook", cells, left, change="view[5] = 2.0", first="float(a[5])", rewrite="a += 1; b += 1"
    )


def _unsaved() -> State:
    """What pickles have not, beside what all have; and a function, with which some fail."""
    cells = (
        "import numpy as np, threading\nx = np.random.default_rng(1).random(131_072)",
        "lock = threading.Lock()\nsteps = (n for n in range(10))\nfirst = next(steps)",
        "def shift(value): return value + first",
    )
    names = ("x", "lock", "steps", "first", "shift")
    return State(
        "1 MB array, lock, generator, function", cells, names, change="x[5] = 1.0", first="float(x[0])"
    )
