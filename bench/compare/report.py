"""What the comparison found, for people and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from .cells import Cell, Difference, cells_of, differences
from .outputs import shared


@dataclass(slots=True)
class Verdict:
    """One notebook, compared."""

    notebook: str
    cells: int = 0
    failing: int = 0
    """Cells that fail on the first engine; when they fail alike, they agree."""
    noise: list[Difference] = field(default_factory=list)
    """Where the first engine differs from itself."""
    found: list[Difference] = field(default_factory=list)
    """Where the engines differ, noise left out."""
    outputs: Counter[str] = field(default_factory=Counter)
    """The first engine's outputs that are no streams, counted by type and set of mime types."""
    alike: Counter[str] = field(default_factory=Counter)
    """Those of them that came out of the other engine with the same type and set."""
    problem: str | None = None
    """Why there is nothing to compare."""

    @property
    def noisy_cells(self) -> int:
        """Cells that differ between two runs of the first engine, in whatever aspect."""
        return len({difference.cell for difference in self.noise})

    @property
    def disagreeing(self) -> int:
        """Cells with a difference that is not noise."""
        return len({difference.cell for difference in self.found})

    @property
    def agreeing(self) -> int:
        """The other cells. A noisy cell agrees when it does in every aspect that is not noisy."""
        return self.cells - self.disagreeing


def judge(name: str, reference: list[dict[str, Any]], candidate: dict[str, Any]) -> Verdict:
    """Compares a candidate with several runs of the reference; the others tell the noise."""
    first, *others = (cells_of(notebook) for notebook in reference)
    compared = cells_of(candidate)
    verdict = Verdict(name, cells=len(first), failing=sum(_failed(cell) for cell in first))
    verdict.noise = _distinct(difference for other in others for difference in differences(first, other))
    noisy = {(difference.cell, difference.aspect) for difference in verdict.noise}
    verdict.found = [
        difference
        for difference in differences(first, compared)
        if (difference.cell, difference.aspect) not in noisy
    ]
    for one, other in zip(first, compared, strict=True):
        if (one.number, "types") not in noisy:
            verdict.outputs.update(map(str, one.forms))
            verdict.alike.update(str(form) for form in shared(one.forms, other.forms))
    return verdict


def text(verdicts: list[Verdict], left: str, right: str) -> str:
    """The tables, then a line for each difference."""
    width = max([len("notebook"), *(len(verdict.notebook) for verdict in verdicts)])
    header = f"{'notebook':<{width}}  cells  failing  agree  disagree  nondeterministic"
    lines = [f"{left} against {right}", "", header]
    total = Verdict("total")
    for verdict in verdicts:
        if verdict.problem:
            lines.append(f"{verdict.notebook:<{width}}  {verdict.problem.splitlines()[0]}")
            continue
        lines.append(_row(verdict, width, verdict.agreeing, verdict.disagreeing, verdict.noisy_cells))
        total.cells += verdict.cells
        total.failing += verdict.failing
    agreeing = sum(verdict.agreeing for verdict in verdicts)
    noisy = sum(verdict.noisy_cells for verdict in verdicts)
    lines.append(_row(total, width, agreeing, total.cells - agreeing, noisy))
    if total.cells:
        lines.append(f"{100 * agreeing / total.cells:.2f} % of {total.cells} cells agree")
    lines += _outputs(verdicts)
    for title, chosen in (("Differences", "found"), ("Nondeterministic on the first engine", "noise")):
        listed = [(v.notebook, difference) for v in verdicts for difference in getattr(v, chosen)]
        if listed:
            lines += ["", title]
            lines += [f"  {notebook}, {difference.line()}" for notebook, difference in _telling(listed)]
    return "\n".join(lines)


def as_json(verdicts: list[Verdict], left: str, right: str) -> dict[str, Any]:
    """Everything, the differing texts in full."""
    return {
        "left": left,
        "right": right,
        "cells": sum(verdict.cells for verdict in verdicts),
        "agreeing": sum(verdict.agreeing for verdict in verdicts),
        "nondeterministic": sum(verdict.noisy_cells for verdict in verdicts),
        "outputs": _sum(verdict.outputs for verdict in verdicts),
        "outputs_alike": _sum(verdict.alike for verdict in verdicts),
        "notebooks": [
            {
                "notebook": verdict.notebook,
                "problem": verdict.problem,
                "cells": verdict.cells,
                "failing": verdict.failing,
                "agreeing": verdict.agreeing,
                "disagreeing": verdict.disagreeing,
                "outputs": verdict.outputs,
                "outputs_alike": verdict.alike,
                "found": [asdict(difference) for difference in verdict.found],
                "noise": [asdict(difference) for difference in verdict.noise],
            }
            for verdict in verdicts
        ],
    }


def _row(verdict: Verdict, width: int, agreeing: int, disagreeing: int, noisy: int) -> str:
    return (
        f"{verdict.notebook:<{width}}  {verdict.cells:>5}  {verdict.failing:>7}  {agreeing:>5}"
        f"  {disagreeing:>8}  {noisy:>16}"
    )


def _telling(listed: list[tuple[str, Difference]]) -> list[tuple[str, Difference]]:
    """Of a cell that failed on one side alone, only that: all else follows from it."""
    failed = {(notebook, d.cell) for notebook, d in listed if d.aspect in ("status", "error")}
    return [
        (notebook, difference)
        for notebook, difference in listed
        if (notebook, difference.cell) not in failed or difference.aspect in ("status", "error")
    ]


def _outputs(verdicts: list[Verdict]) -> list[str]:
    """What was met, and how much of each came out alike; the differences themselves are listed below."""
    outputs, alike = (_sum(getattr(v, name) for v in verdicts) for name in ("outputs", "alike"))
    if not outputs:
        return []
    lines = ["", "outputs  alike  type and mime types"]
    lines += [f"{count:>7}  {alike[form]:>5}  {form}" for form, count in outputs.most_common()]
    agree = f"{100 * alike.total() / outputs.total():.2f} % of {outputs.total()} outputs"
    return [*lines, f"{outputs.total():>7}  {alike.total():>5}  {agree} have the same type and mime types"]


def _sum(counters: Iterable[Counter[str]]) -> Counter[str]:
    return sum(counters, Counter())


def _failed(cell: Cell) -> bool:
    return cell.aspects["status"] == "failed"


def _distinct(found: Iterable[Difference]) -> list[Difference]:
    kept: dict[tuple[int, str], Difference] = {}
    for difference in found:
        kept.setdefault((difference.cell, difference.aspect), difference)
    return list(kept.values())
