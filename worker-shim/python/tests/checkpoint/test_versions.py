"""Versions: noted as far as a stream needs them, compared before the load; code of another Python is lost."""

from __future__ import annotations

import marshal
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellblock_worker import checkpoint
from cellblock_worker.checkpoint import functions, versions

from .restore import restore


def test_what_a_stream_needs_is_known_by_its_package() -> None:
    import pandas

    assert "numpy" in checkpoint.save(checkpoint.Subject({"a": np.arange(3)})).packages
    assert "pandas" not in checkpoint.save(checkpoint.Subject({"a": np.arange(3)})).packages
    assert "pandas" in checkpoint.save(checkpoint.Subject({"pd": pandas})).packages
    held = type("Held", (), {"__module__": "__main__"})
    assert "__main__" not in checkpoint.save(checkpoint.Subject({"held": held})).packages
    assert versions.of_packages({"numpy", "json", "nowhere"}) == {"numpy": np.__version__}


def test_other_versions_are_told() -> None:
    here = platform.python_version()
    minor, patch = here.rsplit(".", 1)
    assert versions.differences(here, {"numpy": np.__version__}) == []
    assert versions.differences(f"{minor}.{patch}9", {}) == []
    assert versions.differences("2.7.18", {"numpy": "0.1", "nowhere": "1"}) == [
        f"Python 2.7.18, now {here}",
        f"numpy 0.1, now {np.__version__}",
    ]


def test_a_package_that_is_not_loaded_yet_is_asked_of_its_installer(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "",
        """
from cellblock_worker.checkpoint import versions
import importlib.metadata, platform, sys
here, there = platform.python_version(), importlib.metadata.version("pyyaml")
assert versions.differences(here, {"yaml": there}) == [] and "yaml" not in sys.modules
assert versions.differences(here, {"yaml": "0.1"}) == [f"yaml 0.1, now {there}"]
""",
    )


def test_functions_of_another_python_are_lost_by_name_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = """
import functools
def f(x): return x
class Own:
    def twice(self): return 2
    kept = 5
own = Own(); own.value = [1]
held = {"f": f, "n": 1, "partial": functools.partial(f, 1)}
def around():
    n = 1
    def within(): return n
    return within
within = around()
also = held
"""
    namespace = {"__name__": "__main__"}
    exec(cell, namespace)
    # What is marshalled in another way, as another version's is: loading it would end the process.
    monkeypatch.setattr(functions, "_MAGIC", b"\0\0\r\n")
    monkeypatch.setattr(marshal, "dumps", lambda _code: b"\xe3 another version's")
    saved = checkpoint.save(checkpoint.Subject(namespace))
    monkeypatch.undo()
    target: dict[str, Any] = {"__name__": "__main__"}
    loaded = checkpoint.load(saved.stream, saved.buffers, target)
    reason = "its code was compiled by another version of Python"
    assert {"f", "within", "around", "Own.twice"} <= {loss["path"] for loss in loaded.losses}
    told = [loss for loss in loaded.losses if loss["path"] in ("f", "Own.twice")]
    assert {loss["reason"] for loss in told} == {reason}
    assert loaded.missing["f"] == reason
    own, held = target["own"], target["held"]
    assert (own.value, own.kept, held["n"]) == ([1], 5, 1)
    assert target["also"] is held
    with pytest.raises(checkpoint.NotRestored, match="another version of Python"):
        own.twice()
    with pytest.raises(checkpoint.NotRestored, match="another version of Python"):
        held["f"](1)
