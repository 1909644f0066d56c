"""A cell in one process, its variables in the next: what a restore is, without storage between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).resolve().parents[2]
SECONDS = 60

_BEGIN = """
import mmap, os, pickle, sys, types
sys.path[:0] = os.environ["TEST_PATH"].split(":")
main = types.ModuleType("__main__")
sys.modules["__main__"] = main
from cellblock_worker import checkpoint, names
from cellblock_worker.checkpoint import plain_dill
folder = os.getcwd()
"""
_SAVE = (
    _BEGIN
    + """
baseline = checkpoint.Baseline()
hidden = dict.fromkeys(vars(main))
exec(compile(open("cell.py").read(), "cell.py", "exec"), vars(main))
save = {"cellblock": checkpoint.save, "dill": plain_dill.save}[os.environ["TEST_SERIALIZER"]]
saved = save(checkpoint.Subject(vars(main), baseline=baseline, missing=names.missing))
with open(f"{folder}/saved", "wb") as file:
    pickle.dump([bytes(saved.stream), [bytes(one) for one in saved.buffers]], file)
with open(f"{folder}/told.json", "w") as file:
    import json
    json.dump([saved.names, saved.left_out], file)
os._exit(0)
"""
)
_LOAD = (
    _BEGIN
    + """
with open("saved", "rb") as file:
    stream, buffers = pickle.load(file)
def mapped(content):
    memory = mmap.mmap(-1, len(content))
    memory[:] = content
    return memoryview(memory)
loaded = checkpoint.load(stream, list(map(mapped, buffers)), vars(main))
with open(f"{folder}/loaded.json", "w") as file:
    import json
    json.dump([loaded.names, loaded.losses], file)
main.NotRestored = checkpoint.NotRestored
exec(compile(open(f"{folder}/then.py").read(), "then.py", "exec"), vars(main))
sys.stdout.flush()
os._exit(0)
"""
)


@dataclass
class Restored:
    """What was told by both processes."""

    saved: list[dict[str, Any]]
    left_out: list[dict[str, str]]
    names: list[str]
    losses: list[dict[str, str]]
    output: str

    def reasons(self) -> dict[str, str]:
        """Why each object was left out, by its path."""
        return {one["path"]: one["reason"] for one in self.left_out}


def restore(
    folder: Path, cell: str, then: str, packages: Path | None = None, serializer: str = "cellblock"
) -> Restored:
    """Runs `cell`, saves, loads in a fresh process, and runs `then` there, which asserts."""
    (folder / "cell.py").write_text(cell)
    (folder / "then.py").write_text(then)
    search = ":".join([str(packages)] * (packages is not None) + [str(PACKAGES)])
    output = ""
    for script in (_SAVE, _LOAD):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder,
            env={**os.environ, "TEST_PATH": search, "MPLBACKEND": "agg", "TEST_SERIALIZER": serializer},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        output = done.stdout
    saved, left_out = json.loads((folder / "told.json").read_text())
    names, losses = json.loads((folder / "loaded.json").read_text())
    return Restored(saved, left_out, names, losses, output)
