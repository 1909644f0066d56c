"""Random programs, run straight and with a restore after each cell; the variables must be the same.

    python -m tests.checkpoint.programs 10000

from the folder above runs that many; a second number is the first seed. Each cell's restore is into an empty
namespace with another `__main__` in the same process; the last of each program also into a fresh process.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import re
import subprocess
import sys
import time
import traceback
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).resolve().parents[2]
CELLS = 12
# In one process.
BLOCK = 100
SECONDS = 600


def run_block(seeds: range) -> list[str]:
    """What went wrong with each of these that failed."""
    told: list[str] = []
    data = b""
    for step in ("run", "load"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.checkpoint.programs", step, str(seeds.start), str(seeds.stop)],
            input=data,
            cwd=PACKAGES,
            # Words about values hold their hashes.
            env={**os.environ, "PYTHONPATH": str(PACKAGES), "PYTHONHASHSEED": "0"},
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            return [*told, f"{seeds}: {step}: {done.returncode}: {done.stderr.decode()[-2000:]}"]
        failed, data = pickle.loads(done.stdout)
        told.extend(failed)
    return told


class World:
    """A namespace that is `__main__` while its cells run."""

    def __init__(self) -> None:
        self.main = types.ModuleType("__main__")
        self.namespace = vars(self.main)

    def run(self, cell: str) -> str:
        """What it raised."""
        sys.modules["__main__"] = self.main
        try:
            with redirect_stdout(io.StringIO()):
                exec(compile(cell, "<cell>", "exec", dont_inherit=True), self.namespace)
        except Exception as error:
            return re.sub(r"0x[0-9a-f]+", "…", f"{type(error).__name__}: {error}")
        return ""


Parts = tuple[bytes, list[bytes]]


def save(world: World, other: World) -> Parts:
    """The stream and its buffers. A variable that is left out, as it may be, both worlds do without."""
    from cellblock_worker import checkpoint

    sys.modules["__main__"] = world.main
    saved = checkpoint.save(checkpoint.Subject(world.namespace))
    for one in saved.left_out:
        del world.namespace[one["path"]], other.namespace[one["path"]]
    if saved.left_out:
        return save(world, other)
    return saved.stream, [bytes(buffer) for buffer in saved.buffers]


def mapped(content: bytes) -> memoryview:
    """A buffer as a restore gives it."""
    memory = mmap.mmap(-1, len(content))
    memory[:] = content
    return memoryview(memory)


def load(parts: Parts) -> World:
    """In a new world; all of it."""
    from cellblock_worker import checkpoint

    world = World()
    sys.modules["__main__"] = world.main
    loaded = checkpoint.load(parts[0], map(mapped, parts[1]), world.namespace)
    if loaded.losses:
        raise AssertionError(f"not loaded: {loaded.losses}")
    return world


def run_program(seed: int) -> tuple[str, Parts, dict[str, str]]:
    """What went wrong, the last save, and how its variables are described."""
    from .description import describe
    from .random_cells import Cells

    cells = Cells(seed)
    straight, restored = World(), World()
    cell, history = cells.first(), []
    parts: Parts = (b"", [])
    for _ in range(CELLS):
        history.append(cell)
        try:
            raised = straight.run(cell), restored.run(cell)
            parts = save(restored, straight)
            restored = load(parts)
            wrong = "" if raised[0] == raised[1] else f"raised {raised}"
            expected, found = describe(straight.namespace), describe(restored.namespace)
            wrong = wrong or _difference(expected, found)
        except Exception:
            wrong = traceback.format_exc(limit=-4)
        if wrong:
            return f"seed {seed}: {wrong}\n" + "\n# --\n".join(history[1:]), parts, {}
        cell = cells.next(straight.namespace)
    return "", parts, expected


def _difference(expected: dict[str, str], found: dict[str, str]) -> str:
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            return f"{name}: {expected.get(name, '')[:1000]}\n    is {found.get(name, '')[:1000]}"
    return ""


def _run_all(seeds: range) -> tuple[list[str], Any]:
    results = [(seed, *run_program(seed)) for seed in seeds]
    ends = [(seed, parts, described) for seed, wrong, parts, described in results if not wrong]
    return [wrong for _, wrong, _, _ in results if wrong], pickle.dumps(ends)


def _load_all(ends: list[tuple[int, Parts, dict[str, str]]]) -> tuple[list[str], bytes]:
    """In a process that has run no cell."""
    failed = []
    for seed, parts, expected in ends:
        try:
            from_parts = load(parts)
            from .description import describe

            wrong = _difference(expected, describe(from_parts.namespace))
        except Exception:
            wrong = traceback.format_exc(limit=-4)
        if wrong:
            failed.append(f"seed {seed}, in a fresh process: {wrong}")
    return failed, b""


def _run_many(count: int, first: int) -> int:
    began = time.monotonic()
    blocks = [range(at, min(at + BLOCK, first + count)) for at in range(first, first + count, BLOCK)]
    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for told in pool.map(run_block, blocks):
            failed += len(told)
            print("\n\n".join(told), end="\n" * bool(told), flush=True)
    seconds = time.monotonic() - began
    print(f"{count} programs of {CELLS} cells from seed {first}: {failed} failed, {seconds:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    if sys.argv[1] in ("run", "load"):
        warnings.simplefilter("ignore")
        chosen = range(int(sys.argv[2]), int(sys.argv[3]))
        result = _run_all(chosen) if sys.argv[1] == "run" else _load_all(pickle.load(sys.stdin.buffer))
        sys.stdout.buffer.write(pickle.dumps(result))
        sys.stdout.flush()
        os._exit(0)
    sys.exit(_run_many(int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])))
