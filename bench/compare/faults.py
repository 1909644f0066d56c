"""Faults put into an executed notebook on purpose. A comparison that does not find them is worth nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .cells import cells_of, differences

Outputs: TypeAlias = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something an engine could do wrong."""

    name: str
    aspects: frozenset[str]
    """In which the comparison must see it."""
    plant: Callable[[Outputs], Outputs | None]
    """The outputs of a cell with the fault in them; None where it has no place."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one planted fault."""

    fault: str
    cell: int | None
    """None: no cell of the notebook has a place for it."""
    found: bool


def lose_stderr_line(outputs: Outputs) -> Outputs | None:
    """The last line of what a cell wrote to stderr does not arrive."""
    for place in reversed(range(len(outputs))):
        output = outputs[place]
        if output.get("name") == "stderr" and (lines := "".join(output["text"]).splitlines(keepends=True)):
            shorter = {**output, "text": "".join(lines[:-1])}
            return [*outputs[:place], *([shorter] if len(lines) > 1 else []), *outputs[place + 1 :]]
    return None


def swap_order(outputs: Outputs) -> Outputs | None:
    """Two neighbours of different kinds arrive the wrong way round."""
    for place in range(len(outputs) - 1):
        one, other = outputs[place : place + 2]
        if (one["output_type"], one.get("name")) != (other["output_type"], other.get("name")):
            return [*outputs[:place], other, one, *outputs[place + 2 :]]
    return None


def lose_figure(outputs: Outputs) -> Outputs | None:
    """A figure does not arrive."""
    for place, output in enumerate(outputs):
        if "image/png" in output.get("data", {}):
            return [*outputs[:place], *outputs[place + 1 :]]
    return None


def lose_mime_type(outputs: Outputs) -> Outputs | None:
    """An output comes without its richest representation."""
    for place, output in enumerate(outputs):
        if rich := sorted(set(output.get("data", ())) - {"text/plain"}):
            data = {mime: value for mime, value in output["data"].items() if mime != rich[0]}
            return [*outputs[:place], {**output, "data": data}, *outputs[place + 1 :]]
    return None


def empty_table(outputs: Outputs) -> Outputs | None:
    """An output's HTML is there, and there is nothing in it."""
    for place, output in enumerate(outputs):
        if "text/html" in output.get("data", {}):
            changed = {**output, "data": {**output["data"], "text/html": "<table></table>"}}
            return [*outputs[:place], changed, *outputs[place + 1 :]]
    return None


FAULTS: Final = (
    Fault("a lost stderr line", frozenset({"stderr", "order"}), lose_stderr_line),
    Fault("a wrong order", frozenset({"order"}), swap_order),
    Fault("a missing figure", frozenset({"types", "order"}), lose_figure),
    Fault("a lost mime type", frozenset({"types", "content", "order"}), lose_mime_type),
    Fault("an empty table", frozenset({"content"}), empty_table),
)


def plant_all(notebook: dict[str, Any]) -> list[Finding]:
    """Plants each fault once, in the first cell that has a place for it, and looks for it."""
    return [_plant(fault, notebook) for fault in FAULTS]


def _plant(fault: Fault, notebook: dict[str, Any]) -> Finding:
    planted: dict[str, Any] = copy.deepcopy(notebook)
    for cell in planted["cells"]:
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        changed = fault.plant(cell["outputs"])
        if changed is None:
            continue
        cell["outputs"] = changed
        number = _number_of(planted, cell)
        seen = differences(cells_of(notebook), cells_of(planted))
        found = {difference.cell for difference in seen} == {number} and fault.aspects <= {
            difference.aspect for difference in seen
        }
        return Finding(fault.name, number, found)
    return Finding(fault.name, None, False)


def _number_of(notebook: dict[str, Any], wanted: dict[str, Any]) -> int:
    with_code = [
        cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()
    ]
    return next(number for number, cell in enumerate(with_code, 1) if cell is wanted)


def specimen() -> dict[str, Any]:
    """An executed notebook with a place for every fault, for those who have no notebook at hand."""
    return {
        "cells": [
            {"cell_type": "markdown", "source": "# Words"},
            {
                "cell_type": "code",
                "source": "warn(); print('done')",
                "execution_count": 1,
                "outputs": [
                    {"output_type": "stream", "name": "stderr", "text": "careful\nvery careful\n"},
                    {"output_type": "stream", "name": "stdout", "text": "done\n"},
                ],
            },
            {
                "cell_type": "code",
                "source": "plt.plot([1, 2])",
                "execution_count": 2,
                "outputs": [
                    {
                        "output_type": "execute_result",
                        "execution_count": 2,
                        "data": {"text/plain": "[<matplotlib.lines.Line2D at 0x7f12ab34cd50>]"},
                    },
                    {
                        "output_type": "display_data",
                        "metadata": {},
                        "data": {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure size 640x480>"},
                    },
                ],
            },
            {
                "cell_type": "code",
                "source": "pd.DataFrame({'a': [1]})",
                "execution_count": 3,
                "outputs": [
                    {
                        "output_type": "execute_result",
                        "execution_count": 3,
                        "metadata": {},
                        "data": {"text/plain": "   a\n0  1", "text/html": "<table><td>1</td></table>"},
                    },
                ],
            },
        ]
    }
