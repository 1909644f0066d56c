"""The two processes of a run of the corpus: one saves, the next loads and proves."""

from __future__ import annotations

import contextlib
import io
import json
import mmap
import os
import pickle
import signal
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The program is not what the cells know as `__main__`.
MAIN = types.ModuleType("__main__")
sys.modules["__main__"] = MAIN

# For one value to load and be proved: one may never end.
SECONDS = 20

Case = dict[str, Any]
# Outcome and words; None if nothing is to be said against it.
Fault = tuple[str, str] | None


def run_cell(source: str) -> None:
    """In a namespace that is as it was left."""
    with contextlib.redirect_stdout(io.StringIO()):
        # Not with what this file asks of the future.
        exec(compile(source, "<cell>", "exec", dont_inherit=True), vars(MAIN))


def clear() -> None:
    """An empty namespace."""
    vars(MAIN).clear()
    vars(MAIN).update(__name__="__main__", __builtins__=__builtins__)


def proof_fails(case: Case, *, restored: bool) -> str | None:
    """What a proof says against it."""
    if case["proof"] is None:
        return None if "v" not in vars(MAIN) or not restored else "it is there"
    vars(MAIN)["restored"] = restored
    try:
        run_cell(case["proof"])
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:200]
    return None


def save_with_cellblock(case: Case, file: Path) -> Fault:
    """One pickle of the stream, the buffers and what was told."""
    from cellblock_worker import checkpoint

    saved = checkpoint.save(checkpoint.Subject(vars(MAIN)))
    file.write_bytes(pickle.dumps((saved.stream, [bytes(one) for one in saved.buffers], saved.left_out)))
    reasons = "; ".join(sorted({one["reason"] for one in saved.left_out}))
    if reasons != (case["reason"] or ""):
        return ("wrong" if case["reason"] else "left out, not expected"), f"{saved.left_out}"
    return None


def mapped(content: bytes) -> memoryview:
    """A buffer as a restore gives it."""
    memory = mmap.mmap(-1, len(content))
    memory[:] = content
    return memoryview(memory)


def load_with_cellblock(file: Path) -> str:
    """What was told."""
    from cellblock_worker import checkpoint

    stream, buffers, told = pickle.loads(file.read_bytes())
    loaded = checkpoint.load(stream, map(mapped, buffers), vars(MAIN))
    if loaded.losses != told:
        raise AssertionError(f"not loaded: {loaded.losses}")
    return str(told) if told else ""


def save_with_dill(_case: Case, file: Path) -> Fault:
    """The namespace as dill's module of the session."""
    import dill

    try:
        dill.dump_module(str(file))
    except BaseException as error:
        return "refused", f"{type(error).__name__}: {error}"[:200]
    return None


def load_with_dill(file: Path) -> str:
    """Nothing is ever told."""
    import dill

    dill.load_module(str(file))
    return ""


WAYS: dict[str, tuple[Callable[[Case, Path], Fault], Callable[[Path], str]]] = {
    "cellblock": (save_with_cellblock, load_with_cellblock),
    "dill": (save_with_dill, load_with_dill),
    "dill, whole": (save_with_dill, load_with_dill),
}


def save_each(cases: list[Case], way: str) -> None:
    """Builds, saves, and sees that each proof holds here too."""
    faults: list[Fault] = []
    for at, case in enumerate(cases):
        clear()
        try:
            run_cell(case["cell"])
        except BaseException as error:
            faults.append(("bad case", f"{type(error).__name__}: {error}"[:200]))
            continue
        fault = WAYS[way][0](case, Path(f"{at}.saved"))
        against = proof_fails(case, restored=False)
        faults.append(("bad case", against) if against else fault)
    Path("faults.json").write_text(json.dumps(faults))


def save_whole(cases: list[Case], way: str) -> None:
    """All values in one namespace."""
    values = {}
    for at, case in enumerate(cases):
        clear()
        run_cell(case["cell"])
        values[f"v{at}"] = vars(MAIN)["v"]
    clear()
    vars(MAIN).update(values)
    fault = WAYS[way][0]({}, Path("0.saved"))
    Path("faults.json").write_text(json.dumps([fault] * len(cases)))


def load_each(cases: list[Case], way: str) -> None:
    """Loads and proves."""
    faults = json.loads(Path("faults.json").read_text())
    results = []
    for at, (case, fault) in enumerate(zip(cases, faults, strict=True)):
        outcome, told = fault or ("", "")
        if not fault:
            clear()
            signal.alarm(SECONDS)
            try:
                told = WAYS[way][1](Path(f"{at}.saved"))
            except BaseException as error:
                outcome, told = "lost", f"{type(error).__name__}: {error}"[:200]
            else:
                against = proof_fails(case, restored=True)
                outcome = "wrong" if against else "left out" if told else "right"
                if way != "cellblock" and case["proof"] is None:
                    # Whether what came back of it does is another question.
                    outcome, against = "unproved", None
                told = against or told
            signal.alarm(0)
        results.append((case["name"], outcome, told))
    Path("results.json").write_text(json.dumps(results))


def _stop(_signal: int, _frame: Any) -> None:
    raise TimeoutError(f"it took longer than {SECONDS} s")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _stop)
    warnings.simplefilter("ignore")
    step, way = sys.argv[1:]
    cases = json.loads(Path("cases.json").read_text())
    if step == "load":
        load_each(cases, way)
    else:
        (save_whole if way == "dill, whole" else save_each)(cases, way)
    # What the values would do at their end is not asked.
    sys.stdout.flush()
    os._exit(0)
