"""Arrays of every kind: elements, memory order, flags, and whose memory it is."""

from __future__ import annotations

from pathlib import Path

from .restore import restore


def test_kinds_of_arrays(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import array, numpy as np
from numpy.lib.stride_tricks import as_strided
fixed = np.arange(20_000); fixed.flags.writeable = False
frozen_view = np.arange(20_000)[5:]; frozen_view.flags.writeable = False
of_bytes = np.frombuffer(b"abcd" * 10_000, "u1")
raw = bytearray(100_000); on_raw = np.frombuffer(raw, "u1"); also_on_raw = np.frombuffer(raw, "i4", 10, 40)
zero = np.array(3.5); empty = np.empty((0, 3), "f4", order="F"); void = np.zeros(3, "V0")
fortran = np.asfortranarray(np.arange(20_000.0).reshape(100, 200))
turned = np.arange(24_000).reshape(20, 30, 40).transpose(2, 0, 1).copy("K")
gaps = np.arange(40_000).reshape(200, 200)[::2, ::3]
wide = np.broadcast_to(np.arange(3.0), (10_000, 3)); windows = as_strided(np.arange(10.0), (4, 3), (16, 8))
when = np.arange("2024-01-01", "2034-01-01", dtype="M8[h]"); span = np.array([1, 2], "m8[s]")
record = np.zeros(10_000, [("a", "i4"), ("b", "f8", (2,)), ("s", "U5")]); field = record["b"]
swapped = np.arange(5, dtype=">i8"); words = np.array(["ab", "c"])
flags = np.array([True, False]); half = np.ones(3, "f2")
objects = np.array([1, "two", None, [4]], object); object_view = objects[::2]; objects[3].append(objects)
mixed = np.array([(1, "x"), (2, [3])], [("n", "i4"), ("o", "O")])
masked = np.ma.array([1, 2, 3], mask=[0, 1, 0]); matrix = np.matrix([[1, 2], [3, 4]])
of_matrix = np.asarray(matrix)
records = np.rec.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f8")])
class Units(np.ndarray):
    def __array_finalize__(self, obj): self.unit = getattr(obj, "unit", "none")
units = np.arange(20_000.0).view(Units); units.unit = "m"; part = units[3:6]
mapped = np.memmap("data.bin", "i4", "w+", 0, (10, 10)); mapped[:] = 7; mapped.flush(); row = mapped[2]
text = np.array(["a", "long" * 10], np.dtypes.StringDType())
scalar = np.float32(1.5); kinds = [np.dtype("f8"), np.float64, np.add, np.random.default_rng(3)]
expected = np.random.default_rng(3).random()
vector = np.vectorize(lambda x: x + 1); poly = np.polynomial.Polynomial([1, 2])
memory = np.arange(10.0); shown = memoryview(memory); shown_array = np.asarray(shown)
resizable = np.arange(5)
""",
        """
import numpy as np
for one in (fixed, frozen_view):
    assert not one.flags.writeable
    one.flags.writeable = True
    one[0] = 99
assert fixed[0] == 99 and fixed[-1] == 19_999 and frozen_view[0] == 99
assert not of_bytes.flags.writeable and of_bytes[:4].tobytes() == b"abcd"
raw[40] = 7
assert on_raw[40] == 7 and also_on_raw[0] == 7
assert zero.shape == () and zero == 3.5 and empty.shape == (0, 3) and void.shape == (3,)
assert fortran.flags.f_contiguous and not fortran.flags.c_contiguous and fortran[1, 1] == 201
assert turned.strides == np.arange(24_000).reshape(20, 30, 40).transpose(2, 0, 1).copy("K").strides
assert (turned == np.arange(24_000).reshape(20, 30, 40).transpose(2, 0, 1)).all()
assert (gaps == np.arange(40_000).reshape(200, 200)[::2, ::3]).all()
assert wide.strides == (0, 8) and not wide.flags.writeable and windows[1].tolist() == [2, 3, 4]
assert when[0] == np.datetime64("2024-01-01") and len(when) == 87_672 and span.dtype == "m8[s]"
field[0] = 5
assert record["b"][0].tolist() == [5, 5] and record.dtype["s"] == "U5"
assert swapped.dtype.byteorder == ">" and swapped[1] == 1 and words.tolist() == ["ab", "c"]
assert half.dtype == "f2"
object_view[0] = "new"
assert objects[0] == "new" and objects[3][1] is objects and mixed[1]["o"] == [3]
assert masked.sum() == 4 and type(masked) is np.ma.MaskedArray and type(matrix) is np.matrix
of_matrix[0, 0] = 50
assert matrix[0, 0] == 50 and records.x[0] == 1 and type(records) is np.recarray
assert type(units) is Units and units.unit == "m" and part.unit == "m"
part[0] = -3
assert units[3] == -3
row[0] = 8
assert mapped[2, 0] == 8 and type(mapped) is np.memmap
mapped.flush()
assert np.fromfile("data.bin", "i4")[20] == 8
assert text.tolist()[0] == "a" and scalar == 1.5 and type(scalar) is np.float32
assert kinds[:3] == [np.dtype("f8"), np.float64, np.add] and kinds[3].random() == expected
memory[1] = 77
assert shown_array[1] == 77
assert vector([1]).tolist() == [2] and poly(1) == 3
resizable.resize(7)
assert resizable.tolist() == [0, 1, 2, 3, 4, 0, 0]
""",
    )
    assert told.reasons() == {"shown": "a view of a part of some memory"}


def test_large_arrays_leave_the_stream_once_each(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        "import numpy as np\na = np.ones(1_000_000)\nviews = [a[at:] for at in range(100)]\n",
        """
import pickle
stream, buffers = pickle.load(open("saved", "rb"))
assert [len(one) for one in buffers] == [8_000_000] and len(stream) < 20_000
assert all(view.base is a for view in views)
""",
    )
    assert told.saved[1]["bytes"] == 8_000_000


def test_tables_and_figures_of_other_packages(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import matplotlib.pyplot as plt, numpy as np, plotly.graph_objects as go, polars as pl, pyarrow as pa, sympy
import scipy.sparse, altair
table = pa.table({"a": range(100_000), "t": ["x"] * 100_000})
frame = pl.DataFrame({"a": [1, 2], "t": ["x", None]}); lazy = pl.Series("s", [1, 2])
figure = go.Figure(go.Scatter(y=[1, 2]))
fig, ax = plt.subplots(); [line] = ax.plot([1, 2])
class Report:
    def __init__(self): self.fig, self.title = fig, "t"
report = Report()
sparse = scipy.sparse.csr_matrix(np.eye(3)); x = sympy.Symbol("x"); term = sympy.sin(x) ** 2
chart = altair.Chart(altair.Data(values=[{"a": 1}])).mark_bar()
""",
        """
assert table.num_rows == 100_000 and table["t"][5].as_py() == "x" and frame["t"].to_list() == ["x", None]
assert lazy.sum() == 3 and figure.data[0].y == (1, 2) and sparse.sum() == 3
assert term.diff(x) == 2 * sympy.sin(x) * sympy.cos(x) and chart.to_dict()["mark"] == {"type": "bar"}
assert report.title == "t" and "fig" not in globals()
""",
    )
    reason = "a figure or a part of one"
    assert told.reasons() == {"fig": reason, "ax": reason, "line": reason}


def test_what_was_restored_is_saved_again_as_it_was(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "import numpy as np, pandas as pd\na = np.arange(100_000.0)\nv = a[5:]\ndf = pd.DataFrame({'x': a})",
        """
from cellblock_worker import checkpoint
import sys
sizes = []
for _ in range(3):
    saved = checkpoint.save(checkpoint.Subject({"a": a, "v": v, "df": df}))
    again = {"__name__": "__main__"}
    checkpoint.load(bytes(saved.stream), [np.array(one).data for one in saved.buffers], again)
    again["v"][0] = -1
    assert again["a"][5] == -1 and again["df"]["x"].sum() == df["x"].sum()
    sizes.append([len(one) for one in saved.buffers])
    a, v, df = again["a"], again["v"], again["df"]
assert sizes == [[800_000] * 2] * 3, sizes
""",
    )


def test_a_record_shares_the_memory_of_its_array(tmp_path: Path) -> None:
    cell = """
import numpy as np
table = np.zeros(5, [("a", "i4"), ("b", "f8")])
record, alone = table[2], np.zeros(1, [("a", "i4")])[0].copy()
"""
    then = """
record["a"] = 7
assert table[2]["a"] == 7
table["b"][2] = 0.5
assert record["b"] == 0.5 and type(record) is np.void
assert alone["a"] == 0
"""
    restore(tmp_path, cell, then)
