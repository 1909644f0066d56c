"""Values as cells make them, each with what proves it after a restore; and what became of each.

    python -m tests.checkpoint.corpus

from the folder above prints how many were right, were left out with a reason, or were wrong: with this
project's checkpoints, and with dill alone.

A file of cases begins with imports, which run ahead of each cell and of each proof. A case is `=== name`, a
cell that binds `v`, and one of
- `--- equal`: `v` is of the same type as the value of the cell's expression, and equal to it;
- `--- then`, and a proof: an expression that is true, or statements that assert;
- `--- left out: reason`: `v` is not bound any more, and that is told;
- `--- then, left out: reason`: something that `v` reaches is left out, and the proof holds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("corpus")
GROUPS = sorted(path.stem for path in FOLDER.glob("*.cases"))
PACKAGES = Path(__file__).resolve().parents[2]
# For all cases of a group.
SECONDS = 120


@dataclass(frozen=True)
class Case:
    """One value."""

    name: str
    cell: str
    # None if `v` is to be left out.
    proof: str | None
    # Of what is left out; None if nothing is.
    reason: str | None


def read(group: str) -> list[Case]:
    """The cases of a file."""
    imports, *texts = re.split(r"^=== ", (FOLDER / f"{group}.cases").read_text(), flags=re.MULTILINE)
    return [_case(imports, text) for text in texts]


def _case(imports: str, text: str) -> Case:
    name, _, rest = text.partition("\n")
    cell, _, rest = rest.partition("\n--- ")
    how, _, proof = rest.partition("\n")
    reason = how.partition("left out: ")[2] or None
    if how == "equal":
        expression = cell.removeprefix("v = ")
        proof = f"assert type(v) is type({expression}) and v == ({expression}), v"
    elif not how.startswith("then"):
        return Case(name, imports + cell, None, reason)
    return Case(name, imports + cell, imports + _statements(proof.strip()), reason)


def _statements(proof: str) -> str:
    try:
        compile(proof, "proof", "eval")
    except SyntaxError:
        return proof
    return f"assert {proof}"


@dataclass(frozen=True)
class Result:
    """What became of a value.

    `right`; `left out`; `refused` with nothing saved; `lost` with nothing loaded; `wrong`; `unproved`:
    something is there where a case has no proof; `bad case`: the proof does not hold without a restore.
    """

    group: str
    name: str
    outcome: str
    told: str


def run(group: str, way: str = "cellblock") -> list[Result]:
    """All cases of a file: built and saved in one process, loaded and proved in the next."""
    with tempfile.TemporaryDirectory() as folder:
        cases = read(group)
        Path(folder, "cases.json").write_text(json.dumps([asdict(case) for case in cases]))
        for step in ("save", "load"):
            done = subprocess.run(
                [sys.executable, str(Path(__file__).with_name("corpus_steps.py")), step, way],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(PACKAGES), "PYTHONHASHSEED": "0"},
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            if done.returncode:
                raise AssertionError(f"{group}, {step}: {done.returncode}\n{done.stderr[-3000:]}")
        results = json.loads(Path(folder, "results.json").read_text())
    return [Result(group, *result) for result in results]


def _print_table(ways: list[str]) -> int:
    table = {way: [result for group in GROUPS for result in run(group, way)] for way in ways}
    outcomes = ("right", "left out", "refused", "lost", "wrong", "unproved", "bad case")
    print(f"{'':14}" + "".join(f"{outcome:>10}" for outcome in outcomes))
    for way, results in table.items():
        counts = Counter(result.outcome for result in results)
        print(f"{way:14}" + "".join(f"{counts[outcome]:>10}" for outcome in outcomes))
    for way, results in table.items():
        for result in results:
            if result.outcome not in ("right", "left out"):
                print(f"{way}: {result.group}: {result.name}: {result.outcome}: {result.told}")
    return int(any(result.outcome not in ("right", "left out") for result in table[ways[0]]))


if __name__ == "__main__":
    sys.exit(_print_table(sys.argv[1:] or ["cellblock", "dill", "dill, whole"]))
