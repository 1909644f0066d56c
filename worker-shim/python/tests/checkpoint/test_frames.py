"""pandas: what a write to one frame changes, and what it must not, as without the restore."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .restore import PACKAGES, restore

# pandas 2 needs pytz, which the pandas of the environment does not.
OLDER = ("pandas==2.3.3", "pytz==2025.2")


@pytest.fixture(scope="module")
def pandas_2() -> Path:
    """A folder with pandas 2, made on first use beside the other Python environments."""
    name = f"pandas2-{sys.version_info.major}.{sys.version_info.minor}"
    folder = PACKAGES.parents[1] / "target/python" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Written last: whether it is complete.
        stamp = folder / "cellblock-stamp"
        if not stamp.exists() or stamp.read_text() != " ".join(OLDER):
            shutil.rmtree(folder, ignore_errors=True)
            install = [
                _with_pip(),
                "-m",
                "pip",
                "--python",
                sys.executable,
                "install",
                "--quiet",
                "--no-deps",
            ]
            subprocess.run([*install, "--only-binary", ":all:", "--target", str(folder), *OLDER], check=True)
            stamp.write_text(" ".join(OLDER))
    return folder


def _with_pip() -> str:
    """The environment's own Python has none; the one that it was made from, or the system's, may."""
    candidates = [str(getattr(sys, "_base_executable", "")), "/usr/bin/python3"]
    for python in candidates:
        asked = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return python
    raise AssertionError(f"none of {candidates} has pip; `apt-get install python3-pip` installs it")


CELL = """
import numpy as np, pandas as pd
def make():
    return pd.DataFrame({"a": np.arange(50_000.0), "b": np.arange(50_000.0), "n": range(50_000)})
df = make()
df2 = df[:]
other = make()
s = other["a"]
third = make()
third_s = third["b"]
col = pd.Series(np.arange(10_000))
idx = pd.Index(col)
raw = other["n"].to_numpy()
arr = np.arange(30_000.0).reshape(10_000, 3)
wrapped = pd.DataFrame(arr, copy=False)
cat = pd.Series(["x", "y"] * 10, dtype="category")
when = pd.date_range("2024-01-01", periods=5, tz="Europe/Berlin")
multi = make().groupby(["n"]).sum().head(3)
both = pd.concat([df, df], axis=1)
text = pd.Series(["a", None, "c"])
gaps = pd.array([1, None, 3], dtype="Int64")
"""
# Run with and without a restore before it: its answers must be the same.
WRITES = """
def show(*values): print(*[repr(v.tolist() if hasattr(v, "tolist") else v) for v in values])
import warnings; warnings.simplefilter("ignore")
df2.iloc[0, 0] = -1.0
show(df.iloc[0, 0], df2.iloc[0, 0])
df.loc[1, "b"] = -2.0
show(df.loc[1, "b"], df2.loc[1, "b"], both.iloc[1].tolist())
s[0] = -3.0
show(other.loc[0, "a"], s[0])
third.loc[0, "b"] = -4.0
show(third.loc[0, "b"], third_s[0])
col[0] = -5
show(col[0], idx[0])
other.loc[2, "n"] = -6
show(raw[2], raw.flags.writeable)
arr[0, 0] = -7.0
show(wrapped.iloc[0, 0])
wrapped.iloc[1, 1] = -8.0
show(arr[1, 1])
df["c"] = df["a"] * 2
df["a"] += 1
show(df.iloc[:3].values, df2.iloc[:3].values)
print(cat.dtype, when, multi, text.tolist(), gaps, both.columns.tolist(), df.index, sep="\\n")
try:
    raw[0] = 1
    print("written", other["n"][0])
except ValueError as error:
    print(error)
"""


def _same_answers(folder: Path, packages: Path | None, version: str) -> None:
    check = f"assert pd.__version__.startswith({version!r}), pd.__version__\n"
    restored = restore(folder, CELL + check, check + WRITES, packages)
    # The control: the same process, nothing saved.
    plain = restore(folder, "", CELL + WRITES, packages)
    assert restored.output == plain.output
    assert restored.left_out == restored.losses == []


def test_a_write_to_a_slice_or_column_under_pandas_3(tmp_path: Path) -> None:
    """`df2 = df[:]` and `s = df["a"]`, written after the load."""
    _same_answers(tmp_path, None, "3.")


def test_a_write_to_a_slice_or_column_under_pandas_2(tmp_path: Path, pandas_2: Path) -> None:
    """`df2 = df[:]` and `s = df["a"]`, written after the load."""
    _same_answers(tmp_path, pandas_2, "2.")
