"""What is to be saved, and what comes of it, whichever serialiser does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellblock_worker import names as name_list

from . import ambient, interpreter, limits


@dataclass
class Saved:
    """A namespace as bytes."""

    stream: bytes
    # Contiguous, in the order in which a load takes them.
    buffers: list[memoryview] = field(default_factory=list)
    # {name, type, bytes} of each variable saved
    names: list[dict[str, Any]] = field(default_factory=list)
    # {path, type, reason} of each object that was not
    left_out: list[dict[str, str]] = field(default_factory=list)
    # the packages that a load imports
    packages: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Subject:
    """What is to be saved, and what is known of it."""

    namespace: dict[str, Any]
    # The helper names with what they hold unless the user rebinds them.
    hidden: dict[str, Any] = field(default_factory=dict)
    shell: Any = None
    # With it, what else of the process's state has changed since is saved too.
    baseline: ambient.Baseline | None = None
    # Names that an earlier load has left unbound, with the reason.
    missing: Mapping[str, str] = field(default_factory=dict)
    # Classes whose instances are left out, with the reason.
    refused: Sequence[tuple[type, str]] = ()

    def collect(self) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, str]]]:
        """The variables, all else that is saved with them by its part, and what cannot be saved of either."""
        variables, refused = limits.split(interpreter.variables(self.namespace, self.hidden))
        losses = [
            {"path": name, "type": name_list.kind_of(self.namespace[name]), "reason": reason}
            for name, reason in refused.items()
        ]
        extras: dict[str, Any] = {"interpreter": interpreter.capture(self.namespace, self.shell)}
        if self.baseline is not None:
            extras["ambient"] = ambient.capture(self.baseline, losses)
        missing = {name: reason for name, reason in self.missing.items() if name not in self.namespace}
        if missing:
            extras["missing"] = missing
        return variables, extras, losses


def described(name: str, value: Any) -> dict[str, Any]:
    """A variable's entry in the list of those that are saved."""
    return {"name": name, "type": name_list.kind_of(value), "bytes": name_list.bytes_of(value)}


def drop_faulty(
    variables: dict[str, Any], extras: dict[str, Any], attempt: Callable[[dict[str, Any]], object]
) -> list[dict[str, str]]:
    """Takes out what `attempt` cannot save; gives a loss for each."""
    losses = []
    for name, reason in _faulty(variables, attempt):
        kind = name_list.kind_of(variables.pop(name))
        losses.append({"path": name, "type": kind, "reason": reason})
    for name, reason in _faulty(extras, attempt):
        del extras[name]
        losses.append({"path": name, "type": "state", "reason": reason})
    return losses


def _faulty(variables: dict[str, Any], attempt: Callable[[dict[str, Any]], object]) -> list[tuple[str, str]]:
    """The names without which the rest can be saved, each with the reason; by halves."""
    try:
        attempt(variables)
    except Exception as error:
        if len(variables) == 1:
            return [(next(iter(variables)), _reason(error))]
        both = list(variables.items())
        middle = len(both) // 2
        return _faulty(dict(both[:middle]), attempt) + _faulty(dict(both[middle:]), attempt)
    return []


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return f"{type(error).__name__}: {error}"[:300]
