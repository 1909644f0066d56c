"""Runs of the `execution_service` plug-in as the client's `ExecutionService` asks for them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .harness import Output, Result, Worker

REPORT = "application/vnd.cellblock.report+json"
ANSWER = "application/vnd.cellblock.answer+json"
TABLE = "application/vnd.cellblock.table+json"
FLOATS = "application/vnd.cellblock.floats"
DISPLAY = "application/vnd.cellblock.display+json"
PLOTLY = "application/vnd.plotly.v1+json"
PICTURES = ("image/png", "image/jpeg", "image/gif")


@dataclass
class Shown:
    """A display as the client reads it."""

    kind: str
    body: Any
    output: Output

    @property
    def label(self) -> Any:
        """The label, whatever it is a display of."""
        return self.body["label"]

    @property
    def source(self) -> Any:
        """How it came to be shown."""
        return self.body["source"]


class Run:
    """A run to its end."""

    def __init__(self, result: Result) -> None:
        self.result = result
        first, *rest = [output for output in result.outputs if output.kind == "display"]
        self.report = json.loads(first.part(REPORT))
        self.shown = [_shown(output) for output in rest]

    @property
    def end(self) -> Any:
        """The `End`."""
        return self.result.end

    @property
    def stdout(self) -> str:
        """All of it."""
        return self.result.stream("stdout")

    @property
    def stderr(self) -> str:
        """All of it."""
        return self.result.stream("stderr")

    @property
    def kinds(self) -> list[str]:
        """What was shown, in its order."""
        return [shown.kind for shown in self.shown]

    def of(self, kind: str) -> list[Any]:
        """The bodies of one kind."""
        return [shown.body for shown in self.shown if shown.kind == kind]

    def only(self, kind: str) -> Any:
        """The one body of a kind."""
        found = self.of(kind)
        assert len(found) == 1, self.kinds
        return found[0]

    @property
    def notices(self) -> list[str]:
        """What was said about outputs that are less than they should be."""
        return [output.body["text"] for output in self.result.outputs if output.kind == "notice"]

    def names(self, change: str) -> list[str]:
        """Names that were added, changed or removed."""
        entries = self.result.finished["names"][change]
        return [entry if isinstance(entry, str) else entry["name"] for entry in entries]


class Service:
    """A worker, used through the plug-in."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._cells = 0

    def run(self, code: str, **arguments: Any) -> Run:
        """Runs a cell to its end; it must not have failed."""
        run = self.try_(code, **arguments)
        assert run.end == "ok", run.end
        return run

    def try_(self, code: str, **arguments: Any) -> Run:
        """Runs a cell to its end, whatever that is."""
        return self.wait(self.start(code, **arguments))

    def start(self, code: str, **arguments: Any) -> str:
        """Starts a cell."""
        self._cells += 1
        defaults = {"seed": 7, "cell": self._cells, "autofix": True, "capture": True}
        task = _task(do="run", notebook="n", **{**defaults, **arguments})
        execution = f"cell-{self._cells}-{self._cells:032x}"
        return self.worker.start(code, execution=execution, echo="none", store_history=False, task=task)

    def wait(self, execution: str) -> Run:
        """To the end of a cell that was started."""
        return Run(self.worker.wait(execution))

    def ask(self, do: str, **arguments: Any) -> Any:
        """What runs no code: its answer."""
        result = self.worker.run("", echo="none", store_history=False, task=_task(do=do, **arguments))
        assert result.end == "ok", result.end
        return json.loads(result.only("display").part(ANSWER))

    def clear(self, *, keep_imports: bool = True) -> None:
        """Clears the namespace."""
        assert self.ask("clear", notebook="n", seed=7, keep_imports=keep_imports) == {}


def table_of(wire: bytes, floats: bytes) -> Any:
    """A table as it travels, with its rows as `data`."""
    table = json.loads(wire)
    rows = table["rows"]
    doubles = iter(struct.unpack(f"<{len(floats) // 8}d", floats))
    values = [list(islice(doubles, rows)) if column is None else column for column in table.pop("values")]
    assert next(doubles, None) is None
    assert all(len(column) == rows for column in values)
    return table | {"data": [[column[at] for column in values] for at in range(rows)]}


def _task(**arguments: Any) -> Any:
    return {"plugin": {"name": "execution_service", "arguments": json.dumps(arguments)}}


def _shown(output: Output) -> Shown:
    metadata = output.metadata.get("cellblock", {})
    if TABLE in output.mimes:
        floats = output.part(FLOATS) if FLOATS in output.mimes else b""
        return Shown("table", table_of(output.part(TABLE), floats), output)
    if DISPLAY in output.mimes:
        body = json.loads(output.part(DISPLAY))
        return Shown(body["type"], body, output)
    if PLOTLY in output.mimes:
        return Shown("plotly", {**metadata, "figure": json.loads(output.part(PLOTLY))}, output)
    if output.mimes[0] in PICTURES:
        return Shown("image", {**metadata, "data": output.part(output.mimes[0])}, output)
    return Shown("other", {"label": None, "source": None, "mimes": output.mimes}, output)
