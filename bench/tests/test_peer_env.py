"""The list of what the checkpoints' peers need; that it can be installed the benchmark's own test shows."""

from __future__ import annotations

import re
from pathlib import Path

from bench.peer_env import LIST

WORKERS = Path(__file__).resolve().parents[2] / "python" / "requirements.txt"


def versions(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9_.-]+)==([^ ;\\]+)", file.read_text(), re.MULTILINE | re.IGNORECASE))


def test_every_package_is_pinned_and_hashed() -> None:
    text = LIST.read_text().replace("\\\n", " ")
    entries = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(entries) == len(versions(LIST)) > 50
    assert all("--hash=sha256:" in entry for entry in entries)


def test_peers_save_with_the_packages_that_workers_have() -> None:
    theirs, ours = versions(LIST), versions(WORKERS)
    shared = theirs.keys() & ours.keys()
    assert {"dill", "ipython", "numpy", "pandas"} <= shared
    assert {name: theirs[name] for name in shared} == {name: ours[name] for name in shared}


def test_kishu_has_a_hash_that_takes_its_strings() -> None:
    assert versions(LIST)["kishu"] == "0.3.4"
    assert int(versions(LIST)["xxhash"].split(".")[0]) < 4
