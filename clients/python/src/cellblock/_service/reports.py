"""The plug-in's report on a cell's code: what the linter found, what autofix changed, why it was refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .plain import Malformed

MIME: Final = "application/vnd.cellblock.report+json"

_VALIDATION_ERROR: Final = "ValidationError"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why code was not run."""

    message: str
    suggestions: tuple[str, ...]
    line: int | None
    column: int | None
    is_syntax: bool

    error_type = _VALIDATION_ERROR

    @property
    def stderr(self) -> str:
        """What stands in `stderr`, where there is no program to write to it."""
        return f"CODE VALIDATION FAILED:\n{self.message}{self._listed('SUGGESTIONS')}"

    @property
    def traceback(self) -> str:
        """What stands for a traceback."""
        headline = "Validation failed - code did not pass syntax checks"
        return f"{headline}\n\n{self.message}{self._listed('Common fixes')}"

    @property
    def syntax_error(self) -> dict[str, Any] | None:
        """Where it is no Python; None when it is refused for another reason."""
        return {"line": self.line, "column": self.column} if self.is_syntax else None

    def _listed(self, title: str) -> str:
        if not self.suggestions:
            return ""
        return f"\n\n{title}:\n" + "\n".join(f"  • {suggestion}" for suggestion in self.suggestions)


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of the code besides what it did."""

    lint: dict[str, Any] | None = None
    autofix: dict[str, Any] | None = None
    refusal: Refusal | None = None


def parse_report(value: Any) -> Report:
    """A report from its JSON."""
    if type(value) is not dict:
        raise Malformed("it is no object")
    lint = value.get("lint_report")
    if lint is not None and not _is_lint(lint):
        raise Malformed("its lint_report has no list of issues")
    autofix = value.get("autofix_report")
    if autofix is not None and not _is_autofix(autofix):
        raise Malformed("its autofix_report lacks a field")
    return Report(lint, autofix, _refusal(value.get("refused")))


_ISSUE: Final = frozenset(["severity", "message", "rule_id", "line", "column", "suggestion", "fixable"])
_AUTOFIX: Final = {
    "enabled": bool, "applied": bool, "original_code": str, "fixed_code": str, "diff": str, "changes": list,
}  # fmt: skip


def _is_lint(lint: Any) -> bool:
    if type(lint) is not dict or type(lint.get("engine")) is not str or type(lint.get("issues")) is not list:
        return False
    return all(type(issue) is dict and issue.keys() >= _ISSUE for issue in lint["issues"])


def _is_autofix(autofix: Any) -> bool:
    return type(autofix) is dict and all(type(autofix.get(name)) is kind for name, kind in _AUTOFIX.items())


def _refusal(value: Any) -> Refusal | None:
    if value is None:
        return None
    if type(value) is not dict or type(value.get("message")) is not str:
        raise Malformed("its `refused` has no message")
    suggestions = value.get("suggestions") or []
    if type(suggestions) is not list or not all(type(item) is str for item in suggestions):
        raise Malformed("its suggestions are no texts")
    places = [value.get(name) for name in ("line", "column")]
    line, column = (place if type(place) is int else None for place in places)
    return Refusal(value["message"], tuple(suggestions), line, column, value.get("syntax") is True)
