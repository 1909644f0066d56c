"""The other serialiser: what dill takes comes back, what it does not is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from .restore import restore

pytest.importorskip("dill")


def test_what_dill_takes_comes_back_and_what_it_does_not_is_named(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import decimal, os, random
factor = 2
class Own:
    def twice(self): return factor * self.value
own = Own(); own.value = [21]
both = [own, own]
def f(): return factor + 1
walk = (x for x in both)
more = {"deep": [walk]}
random.seed(5)
os.environ["ADDED"] = "1"
""",
        """
assert own.twice() == [21, 21] and both[0] is both[1] is own and type(own) is Own
factor = 3
assert f() == 4 and len(own.twice()) == 3 and os.environ["ADDED"] == "1"
assert random.random() == random.Random(5).random()
assert "walk" not in globals() and "more" not in globals()
""",
        serializer="dill",
    )
    assert {name["name"] for name in told.saved} >= {"own", "both", "f", "factor", "Own"}
    assert set(told.reasons()) == {"walk", "more"}
    assert all("generator" in reason for reason in told.reasons().values())


def test_what_cannot_be_loaded_loses_itself_only(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Gone:\n    pass\nclass Kept: pass\n")
    told = restore(
        tmp_path,
        """
import sys; sys.path.insert(0, ".")
import mine
gone, kept = mine.Gone(), mine.Kept()
def f(): return kept
open("mine.py", "w").write("class Kept: pass\\n")
""",
        "assert f() is kept and type(kept) is mine.Kept and 'gone' not in globals()\n",
        serializer="dill",
    )
    assert {one["path"] for one in told.losses} == {"", "gone"}
