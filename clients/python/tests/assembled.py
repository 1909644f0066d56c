"""Outputs written by hand, and the result that is made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cellblock import Bundle, Display, End, ErrorFrame, NameChanges, Ok, Outcome, Output, Stream, Usage
from cellblock._service.artefacts import DISPLAY, FLOATS, PLOTLY, TABLE
from cellblock._service.assembly import Asked, Assembly
from cellblock._service.reports import MIME as REPORT
from cellblock._service.result import ExecutionResult

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
NO_ISSUES = {"engine": "builtin", "issues": []}


def assembled(
    outputs: Sequence[Output], end: End | None = None, *, lost: tuple[str, ...] | None = None, **asked: Any
) -> ExecutionResult:
    """The result of an Execution with these outputs; it must have strict JSON, whatever they are."""
    assembly = Assembly(Asked(**{"capture": True, "wall_seconds": 5.0} | asked))
    for output in outputs:
        assembly.take(output)
    result = assembly.result(outcome(end, lost), datetime(2026, 11, 22, 19, 2, 33, 513365))
    assert json.loads(result.model_dump_json(), parse_constant=_refuse)
    result.model_dump_json().encode()
    return result


def outcome(end: End | None = None, lost: tuple[str, ...] | None = None) -> Outcome:
    """How it ended: well, unless another end is given."""
    usage = Usage(cpu_seconds=0.25, memory_peak_bytes=1 << 20, written_bytes=7)
    return Outcome(end or Ok(), 1, 0.5, 0.125, lost, NameChanges((), (), ()), {}, usage)


def text(data: str, name: Any = "stdout") -> Stream:
    """Something printed."""
    return Stream(0, name, data.encode())


def display(parts: dict[str, Any], metadata: dict[str, Any] | None = None, **rest: Any) -> Display:
    """A bundle; what is no bytes is JSON."""
    encoded = {
        mime: part if type(part) is bytes else json.dumps(part).encode() for mime, part in parts.items()
    }
    return Display(0, Bundle(encoded, metadata or {}), rest.get("display_id"), rest.get("update", False))


def report(refused: Any = None, **rest: Any) -> Display:
    """The plug-in's report."""
    return display({REPORT: {"lint_report": NO_ISSUES, "autofix_report": None, "refused": refused} | rest})


def table(name: str = "df", source: str = "variable", floats: bytes = b"", **changes: Any) -> Display:
    """A table of the plug-in's; as a display it has a label."""
    captioned = source == "display"
    value = {
        "name": name,
        "source": source,
        "type": "table" if captioned else None,
        "label": "Table 1" if captioned else None,
        "shape": [2, 2],
        "columns": ["a", "b"],
        "rows": 2,
        "values": [[1, 2], ["x", None]],
        "info": {"dtypes": {"a": "int64", "b": "object"}, "memory_usage": {"Index": 128, "a": 16, "b": 16}},
        "truncated": False,
    }
    shipped = {FLOATS: floats} if floats else {}
    return display({TABLE: value | changes, **shipped, "text/html": b"<table></table>"})


def shown(kind: str = "json", label: str = "Data", content: Any = "{}") -> Display:
    """Another display of the plug-in's."""
    return display({DISPLAY: {"type": kind, "label": label, "content": content, "source": "display"}})


def image(label: str | None = None, source: str = "auto-captured") -> Display:
    """A figure of the plug-in's."""
    return display({"image/png": PNG}, {"cellblock": {"label": label, "source": source}})


def plotly(name: str = "fig", figure: Any = None, **caption: Any) -> Display:
    """A Plotly figure of the plug-in's."""
    content = {"data": [{"type": "bar", "y": [1.5]}], "layout": {}} if figure is None else figure
    caption = {"name": name, "label": None, "source": "auto-captured"} | caption
    return display({PLOTLY: content}, {"cellblock": caption})


def frame(
    line: int, code: str | None, function: str = "<module>", *, cell: int | None = 3, file: str = "/tmp/1.py"
) -> ErrorFrame:
    """A frame, of a cell unless it has none."""
    execution = None if cell is None else f"cell-{cell}-{'0' * 32}"
    return ErrorFrame(execution, file, line, function, code)


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} is no strict JSON")
