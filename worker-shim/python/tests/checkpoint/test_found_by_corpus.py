"""What the corpus and the random programs have found to be lost or changed, each by its name."""

from __future__ import annotations

from pathlib import Path

from .restore import restore


def test_an_array_after_two_restores_is_still_the_base_of_its_views(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "import numpy as np\na = np.arange(100_000.0)\nv = a[5:]\n",
        """
import mmap
from cellblock_worker import checkpoint
def mapped(content):
    memory = mmap.mmap(-1, len(content))
    memory[:] = content
    return memoryview(memory)
for _ in range(3):
    saved = checkpoint.save(checkpoint.Subject({"a": a, "v": v}))
    again = {}
    checkpoint.load(saved.stream, [mapped(bytes(one)) for one in saved.buffers], again)
    a, v = again["a"], again["v"]
    assert v.base is a and not isinstance(a.base, np.ndarray) and len(saved.buffers) == 1
""",
    )


def test_a_view_stays_open_whose_base_was_locked_later(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "import numpy as np\na = np.arange(9)\nv, w = a[2:], a[1:]\n"
        "a.flags.writeable = w.flags.writeable = False\n",
        "v[0] = 50\nassert a[2] == w[1] == 50 and not a.flags.writeable and not w.flags.writeable\n",
    )


def test_views_of_objects_keep_their_base_and_their_lock(tmp_path: Path) -> None:
    restore(
        tmp_path,
        """
import numpy as np
a = np.array([[1, "x"], [None, [2]]], object)
turned, row, wide = a.T, a[0, ::-1], np.broadcast_to(a[0], (3, 2))
locked = np.array([None]); locked.flags.writeable = False
""",
        """
a[0, 1] = "new"
assert turned[1, 0] == row[0] == wide[2, 1] == "new" and turned.base is a and row.base is a
assert not locked.flags.writeable and not wide.flags.writeable
""",
    )


def test_a_bytearray_cannot_be_resized_under_its_arrays(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "import numpy as np\nb = bytearray(80)\nv = np.frombuffer(b, 'u1')\nw = v.reshape(8, 10).T\n",
        "try:\n    b += b'x'\nexcept BufferError:\n    pass\nelse:\n    raise AssertionError\n"
        "b[11] = 5\nassert v[11] == w[1, 1] == 5\n",
    )


def test_a_masked_array_shares_its_data_and_its_mask(tmp_path: Path) -> None:
    restore(
        tmp_path,
        """
import numpy as np
a, m = np.arange(9_000.0), np.zeros(9_000, bool)
v = np.ma.array(a, mask=m, copy=False, hard_mask=True, fill_value=-9)
plain = np.ma.array([1, 2])
""",
        """
a[0], m[1] = -1, True
assert v[0] == -1 and v[1] is np.ma.masked and v.hardmask and v.fill_value == -9
assert plain.mask is np.ma.nomask
""",
    )


def test_large_bytes_leave_the_stream_and_stay_the_same_object(tmp_path: Path) -> None:
    restore(
        tmp_path,
        """
import numpy as np
raw, text = bytearray(200_000), b"x" * 300_000
held = {"raw": [raw], "text": (text, bytes(100_000))}
view, also = np.frombuffer(raw, "i8"), np.frombuffer(text, "u1")
""",
        """
import pickle
stream, buffers = pickle.load(open("saved", "rb"))
assert sorted(map(len, buffers)) == [100_000, 200_000, 300_000] and len(stream) < 30_000
assert type(raw) is bytearray and held["raw"][0] is raw and held["text"][0] is text == b"x" * 300_000
raw[8] = 3
assert view[1] == 3 and also[5] == ord("x") and type(held["text"][1]) is bytes
""",
    )


def test_an_iterator_in_its_own_list_keeps_its_position(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "l = [1, 2, 3]\ni = iter(l)\nnext(i)\nl.append(i)\nr = reversed(l)\nnext(r)\n",
        "assert next(i) == 2 and next(r) == 3 and l[3] is i\n",
    )


def test_an_exception_keeps_what_it_came_from(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
class Mine(OSError):
    def __init__(self, must): super().__init__(2, "no", must); self.me = self
try:
    try: 1 / 0
    except ZeroDivisionError as error: raise Mine("f") from error
except Mine as error: kept = error
class Own(Exception):
    def __init__(self, x): self.x = x
    def __reduce__(self): return Own, ([self.x],)
own = Own(1)
""",
        """
assert type(kept.__cause__) is ZeroDivisionError is type(kept.__context__) and kept.__suppress_context__
assert kept.filename == "f" and kept.errno == 2 and kept.me is kept and own.x == [1]
""",
    )
    assert told.left_out == []


def test_what_c_keeps_in_an_object_is_left_out_and_not_emptied(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import functools, numpy as np
key, ufunc = functools.cmp_to_key(lambda a, b: b - a), np.frompyfunc(lambda x: x, 1, 1)
""",
        "assert 'key' not in globals() and 'ufunc' not in globals()\n",
    )
    assert set(told.reasons()) == {"key", "ufunc"}


def test_a_figure_of_plotly_has_its_numbers(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "import numpy as np, plotly.graph_objects as go\n"
        "f = go.Figure(go.Scatter(y=np.arange(9.0)), layout={'height': 300})\n",
        "assert f.data[0].y.tolist() == list(range(9)) and f.layout.height == 300\n",
    )


def test_no_code_of_a_class_stands_in_the_way(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
class Needs:
    def __new__(cls, must): return super().__new__(cls)
class Point(tuple):
    def __new__(cls, x, y): return super().__new__(cls, (x, y))
class Checked(dict):
    def __setitem__(self, key, value):
        assert self.ready
        super().__setitem__(key, value)
    def items(self): return []
class Closed(list):
    def append(self, item): raise TypeError
    extend = append
needs, point, checked, closed = Needs(1), Point(1, 2), Checked(a=1), Closed([1])
needs.x, checked.ready, checked.me, closed.me = 1, True, checked, closed
""",
        """
assert needs.x == 1 and point == (1, 2) and type(point) is Point and dict(checked) == {"a": 1}
assert checked.ready and checked.me is checked and closed == [1] and closed.me is closed
""",
    )
    assert told.left_out == told.losses == []


def test_names_that_the_store_refuses_are_left_out_with_a_reason(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
fine = é = 1
globals().update({"a\\nb": 1, "\\u202ex": 1, "\\ud800": 1, "x" * 2_000: 1, "two words": 1})
""",
        "assert fine == é == globals()['two words'] == 1\n",
    )
    assert [one["name"] for one in told.saved] == ["fine", "é", "two words"]
    reasons = {reason.partition(" ")[2] for reason in told.reasons().values()}
    assert reasons == {
        "name has characters that a terminal obeys",
        "name has half of a character",
        "name is longer than 1024 bytes",
    }


def test_more_losses_than_the_store_takes_are_counted(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        "held = [(x for x in ()) for _ in range(12_000)]\n",
        "assert len(held) == 12_000\n",
    )
    assert len(told.left_out) == 10_000
    assert told.left_out[-1]["reason"] == "2,001 more objects were left out"


def test_nothing_is_kept_alive_by_a_save(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "import numpy as np\n",
        """
import gc, weakref
from cellblock_worker import checkpoint
gc.disable()
class Held: pass
held = Held()
gone = weakref.ref(held)
checkpoint.save(checkpoint.Subject({"held": held}))
del held
assert gone() is None
""",
    )
