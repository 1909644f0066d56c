"""Runs notebooks on ipykernel and on cellblock and says where they differ.

Exit code 0: at least `--require` per cent of the cells agree (and, with --self-test, every planted fault
was found); 1: not so.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from . import faults, report
from .engines import Cellctl, Engine, EngineError, Ipykernel


def main() -> int:
    """The command."""
    arguments = _parse()
    if arguments.self_test:
        return _self_test(arguments)
    reference = Ipykernel()
    candidate: Engine = reference
    if not arguments.noise:
        candidate = Cellctl(arguments.bin_dir / "cellctl", arguments.python)
    verdicts = []
    for notebook in arguments.notebooks:
        print(f"{notebook.stem} …", file=sys.stderr, flush=True)
        try:
            # Two runs of the peer tell what differs by itself.
            runs = [_run(reference, run, notebook, arguments) for run in (1, 2)]
            verdict = report.judge(notebook.stem, runs, _run(candidate, 3, notebook, arguments))
        except EngineError as failure:
            verdict = report.Verdict(notebook.stem, problem=str(failure))
        verdicts.append(verdict)
    left, right = reference.name, candidate.name
    print(report.text(verdicts, left, right))
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(verdicts, left, right), indent=1))
    cells = sum(verdict.cells for verdict in verdicts)
    agreeing = sum(verdict.agreeing for verdict in verdicts)
    enough = cells > 0 and 100 * agreeing >= arguments.require * cells
    return 0 if enough and not any(verdict.problem for verdict in verdicts) else 1


def _run(engine: Engine, number: int, notebook: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs a notebook, or takes the result of an earlier run of the peer."""
    kept: Path | None = None
    if arguments.keep:
        kept = arguments.keep / f"{notebook.stem}.{engine.name}-{number}.ipynb"
        if isinstance(engine, Ipykernel) and kept.is_file():
            executed: dict[str, Any] = json.loads(kept.read_text())
            return executed
    data = [name for name in arguments.with_ if (notebook.parent / name).exists()]
    executed = engine.run(notebook, data)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(executed, indent=1))
    return executed


def _self_test(arguments: argparse.Namespace) -> int:
    """Faults in the specimen, and in each given notebook as ipykernel ran it."""
    engine = Ipykernel()
    documents = {"specimen": faults.specimen()}
    documents |= {notebook.stem: _run(engine, 1, notebook, arguments) for notebook in arguments.notebooks}
    missed = False
    for name, document in documents.items():
        for finding in faults.plant_all(document):
            if finding.cell is None:
                # Fine for a notebook; the specimen has a place for every fault.
                words, failed = "no place for it", name == "specimen"
            else:
                words, failed = f"planted in cell {finding.cell}, ", not finding.found
                words += "found" if finding.found else "NOT FOUND"
            missed |= failed
            print(f"{name}: {finding.fault}: {words}")
    return 1 if missed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK")
    parser.add_argument("--bin-dir", type=Path, default=Path("target/debug"), help="where cellctl is")
    parser.add_argument(
        "--python",
        type=Path,
        default=Path("target/python/worker/bin/python"),
        help="what cellblock's workers run; it needs the packages of the environment that runs this",
    )
    parser.add_argument(
        "--with",
        dest="with_",
        action="append",
        default=[],
        metavar="NAME",
        help="a file or folder beside the notebooks that they read, where there is one; may be repeated",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep the executed notebooks; the peer's are taken from there when they are there already",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything found there")
    parser.add_argument("--require", type=float, default=99.0, metavar="PERCENT", help="[default: 99]")
    parser.add_argument("--noise", action="store_true", help="compare ipykernel with itself only")
    parser.add_argument("--self-test", action="store_true", help="plant faults and look for them")
    arguments = parser.parse_args()
    if not arguments.notebooks and not arguments.self_test:
        parser.error("name the notebooks to compare")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
