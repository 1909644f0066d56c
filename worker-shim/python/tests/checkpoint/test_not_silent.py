"""What a pickle of the variables would lose without a word: what is set on modules, tracebacks, paths."""

from __future__ import annotations

from pathlib import Path

from .restore import restore


def test_what_the_user_has_set_on_a_module_comes_back(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import builtins, json, string, sys, textwrap, threading
class Own: pass
shared = Own()
string.mine = shared
string.also = Own
real = json.dumps
def dumps(obj): return "mine " + real(obj)
json.dumps = dumps
def loud(self): return self.template.upper()
string.Template.loud = loud
builtins.helper = dumps
textwrap.lock_of_mine = Own(); textwrap.lock_of_mine.lock = threading.Lock()
sys.excepthook = loud
""",
        """
import builtins, textwrap
assert string.mine is shared and string.also is Own and type(shared) is Own
assert json.dumps is dumps and json.dumps(1) == "mine 1"
assert string.Template("a").loud() == "A" and builtins.helper is dumps
assert type(textwrap.lock_of_mine) is Own and sys.excepthook is sys.__excepthook__
""",
    )
    assert told.reasons() == {
        "sys.excepthook": "set on `sys`, on which the next process depends itself: set it again",
        "textwrap.lock_of_mine.lock": "a lock",
    }
    assert [one["path"] for one in told.losses] == ["textwrap.lock_of_mine.lock"]


def test_what_stands_in_for_a_stream_is_not_taken_for_the_stream(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import sys
class Tee:
    def __init__(self, to): self.to = to
    def write(self, text): return self.to.write(text)
    def flush(self): self.to.flush()
before = sys.stdout
sys.stdout = tee = Tee(sys.stdout)
""",
        "assert type(tee) is Tee and tee.to is sys.stdout is before\n",
    )
    assert list(told.reasons()) == ["sys.stdout"]


def test_a_patch_that_cannot_be_made_again_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Held: pass\n")
    told = restore(
        tmp_path,
        """
import mine
def f(): pass
mine.Held.f = f
open("mine.py", "w").write("")
""",
        "",
    )
    assert [(one["path"], one["type"]) for one in told.losses] == [("mine.Held.f", "function")]


def test_a_traceback_prints_as_it_did(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import traceback
class Own(Exception): pass
def inner(x):
    raise Own("here")
def outer():
    try:
        inner(1)
    except Own as error:
        raise ValueError("above") from error
try:
    outer()
except ValueError as error:
    kept = error
shown = "".join(traceback.format_exception(kept))
def deep(n): return deep(n - 1) if n else 1 / 0
try:
    deep(500)
except ZeroDivisionError as error:
    long = error
bare = KeyError(1)
""",
        """
assert shown.count("line") == 4
# Python 3.13 underlines nothing where it knows no columns; 3.11 and later underline a part of a line.
plain = lambda text: [line for line in text.splitlines() if line.strip(" ^~")]
assert plain("".join(traceback.format_exception(kept))) == plain(shown)
assert 90 < len(list(traceback.walk_tb(long.__traceback__))) <= 100
assert bare.__traceback__ is None
try:
    raise kept
except ValueError as again:
    assert "inner" in "".join(traceback.format_exception(again))
""",
    )
    assert told.left_out == []


def test_modules_of_an_added_folder_are_found_when_they_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library/far.py").write_text("import os\nclass Far: pass\nMODE = os.environ['FAR_MODE']\n")
    told = restore(
        tmp_path,
        """
import os, sys
sys.path.append(os.path.abspath("library"))
os.environ["FAR_MODE"] = "fast"
import far
value = far.Far()
os.mkdir("sub"); os.chdir("sub")
""",
        "assert type(value) is far.Far and far.MODE == 'fast' and os.getcwd().endswith('/sub')\n",
    )
    assert told.losses == []


def test_every_name_of_a_lost_object_is_named(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        "import threading\na = threading.Lock()\nb = a\nheld = [a]\n",
        "assert 'a' not in globals() and 'b' not in globals() and len(held) == 1\n",
    )
    assert told.reasons() == {"a": "a lock", "b": "a lock"}
    assert {one["path"] for one in told.losses} == {"a", "b"}


def test_a_writer_that_holds_something_back_leaves_no_gap(tmp_path: Path) -> None:
    restore(
        tmp_path,
        """
out = open("out.txt", "w", buffering=100_000)
out.write("early "); out.flush()
out.write("held back" * 2_000)
raw = open("raw.bin", "wb"); raw.write(b"1"); raw.flush(); raw.write(b"23")
""",
        """
out.write("late"); out.close(); raw.write(b"4"); raw.close()
assert open("out.txt").read() == "early late", open("out.txt").read()
assert open("raw.bin", "rb").read() == b"14"
""",
    )


TORCH = """
import random
# As much of it as is asked for here: its generator's state is an array of bytes.
class Bytes:
    def __init__(self, values): self.values = list(values)
    def tolist(self): return self.values
uint8 = "uint8"
def tensor(values, dtype): assert dtype == uint8; return Bytes(values)
_state = [0]
def get_rng_state(): return Bytes(_state)
def set_rng_state(state): assert type(state) is Bytes; _state[:] = state.values
def rand(): _state[0] = (_state[0] * 5 + 3) % 256; return _state[0]
"""


def test_the_state_of_another_generator_comes_back(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(TORCH)
    cell = "import torch\n[torch.rand() for _ in range(7)]\nseen = torch.get_rng_state().tolist()[0]\n"
    restore(tmp_path, cell, "import torch\nassert torch.rand() == (seen * 5 + 3) % 256\n")
