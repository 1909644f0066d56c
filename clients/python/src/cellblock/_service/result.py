"""What `execute_code` returns: the old service's fields, their types and their JSON, and more beside them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from . import plain


class ExecutionStatus(StrEnum):
    """How far a cell has come. A result has one of the last three."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"


@dataclass(kw_only=True)
class ExecutionResult:
    """One cell's result.

    Plain data of JSON's types but for `status` and `timestamp`. The methods are those of the pydantic
    model that it was.
    """

    status: ExecutionStatus
    stdout: str = ""
    stderr: str = ""
    execution_time: float = 0.0
    """Seconds from the call to its answer."""
    timestamp: datetime = field(default_factory=datetime.now)
    """When the call began, in local time without a zone."""
    plots: list[dict[str, Any]] = field(default_factory=list)
    """Images, base64: what was displayed, then what was captured."""
    tables: list[dict[str, Any]] = field(default_factory=list)
    """Displayed tables, other displays, variables, tables printed to stdout."""
    images: list[str] = field(default_factory=list)
    """Always empty, as it always was."""
    interactive_plots: list[dict[str, Any]] = field(default_factory=list)
    """Plotly figures."""
    error_type: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    warnings: list[str] = field(default_factory=list)
    """Doubts about the statistics in `stdout` and `tables`."""
    lint_report: dict[str, Any] | None = None
    autofix_report: dict[str, Any] | None = None

    outcome: dict[str, Any] = field(default_factory=dict)
    """How it ended: `kind` (as `cellblock.Outcome.kind`), `sentence`, `lost` (the names that went with the
    worker, None when all were kept) and `limit` (name, allowed, reached, unit; None when none was met)."""
    frames: list[dict[str, Any]] = field(default_factory=list)
    """The stack of the error, from the cell inwards: `cell` (its number or None), `file`, `line`, `function`,
    `code`, `execution`."""
    checkpoint: dict[str, Any] | None = None
    """What became of saving the variables: `state` (`pending`, `saved`, `partial`, `failed`), `id`, `reason`
    (why it failed), `left_out` (values with `path`, `type`, `reason`; the first 100), `left_out_count`,
    `written_bytes`, `pause_seconds`. None without `persist_state`."""
    limits: dict[str, Any] = field(default_factory=dict)
    """`wall_seconds` that were asked for (None: the profile's), and the `usage` of the machine."""
    syntax_error: dict[str, Any] | None = None
    """`line` and `column` of code that was refused because it is no Python."""
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """The order in which the code made its outputs: `field` names one of ours, with `start` and `end` in a
    text or `index` in a list."""
    notices: list[dict[str, Any]] = field(default_factory=list)
    """What cellblock has to say beside it: `topic` (`variables_lost`, `degraded`), `text`, `names`."""

    def model_dump(self, *, mode: Literal["python", "json"] = "python") -> dict[str, Any]:
        """All fields by name; with `json` of JSON's types alone."""
        if mode == "json":
            loaded: dict[str, Any] = json.loads(self.model_dump_json())
            return loaded
        return dataclasses.asdict(self)

    def model_dump_json(self) -> str:
        """All fields as strict JSON."""
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        fields |= {"status": self.status.value, "timestamp": self.timestamp.isoformat()}
        return plain.dump(fields)

    def dict(self) -> dict[str, Any]:
        """`model_dump`, by its older name."""
        return self.model_dump()

    def json(self) -> str:
        """`model_dump_json`, by its older name."""
        return self.model_dump_json()
