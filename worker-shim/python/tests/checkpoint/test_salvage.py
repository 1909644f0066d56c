"""What cannot be loaded loses itself only, and is named."""

from __future__ import annotations

from pathlib import Path

from .restore import restore

# A module of the user's, which the second cell finds changed.
MODULE = """
class Kept:
    def __init__(self): self.x = 1
class Gone(Kept): pass
class Strict(Kept):
    def __setstate__(self, state): {raises}self.__dict__.update(state)
def make(x): {raises}return [x]
class Reduced:
    def __reduce__(self): return make, (5,)
"""


def test_a_component_that_cannot_be_loaded_loses_itself_only(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE.format(raises=""))
    change = MODULE.format(raises="raise ValueError('no longer'); ").replace("class Gone(Kept): pass", "")
    told = restore(
        tmp_path,
        f"""
import sys; sys.path.insert(0, ".")
import mine, numpy as np
kept = mine.Kept()
gone = mine.Gone()
strict = mine.Strict(); strict.me = strict
held = {{"gone": gone, "strict": [strict], "reduced": mine.Reduced(), "kept": kept, "n": 1}}
class Local(mine.Gone): pass
local = Local()
big = np.arange(100_000)
view = big[5:]
def f(): return kept.x
open("mine.py", "w").write({change!r})
""",
        """
assert kept.x == 1 and held["kept"] is kept and held["n"] == 1 and f() == 1
view[0] = -1
assert big[5] == -1
for name in ("gone", "strict", "Local", "local"):
    assert name not in globals(), name
for use in (lambda: held["gone"].x, lambda: held["strict"][0].x, lambda: held["reduced"][0]):
    try:
        use()
    except NotRestored as error:
        print(error)
    else:
        raise AssertionError("it was used")
""",
    )
    assert {one["path"] for one in told.losses} >= {"gone", "strict", "held['reduced']", "Local", "local"}
    assert "`held['reduced']` was not restored: ValueError: no longer" in told.output
    assert "`strict` was not restored: ValueError: no longer" in told.output


def test_a_name_that_cannot_be_pickled_at_all_loses_itself_only(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
class Liar(list):
    def __reduce_ex__(self, protocol): return Liar, (), None, iter(self.gives())
    def gives(self):
        yield 1
        raise RuntimeError("midway")
bad, good, shared = Liar(), [1], {}
good.append(shared)
""",
        "assert 'bad' not in globals() and good == [1, shared] and good[1] is shared\n",
    )
    assert told.reasons() == {"bad": "RuntimeError: midway"}
