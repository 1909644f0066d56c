"""A cell's source before it runs: may it run, what is to be said about it, and what is repaired in it.

The one syntax tree of the cell, after IPython's transform, serves every rule; reports speak of the cell as it
was written. Nothing here runs user code, and no cell makes it raise. Deliberately absent: any rewriting of
code that is right; what a run needs beyond the cell's own text is done in the running process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import autofix as repairs
from . import lint, validation
from .modules import Namespace
from .positions import Positions
from .scopes import Facts, survey

# Above this, only whether it is Python is looked at: 20,000 lines take about as long as a slow figure.
CHECKED_CHARACTERS = 1 << 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to become of a cell. `refused` has message, line, column, suggestions, syntax."""

    code: str
    lint_report: dict[str, Any]
    autofix_report: dict[str, Any] | None = None
    refused: dict[str, Any] | None = None


def prepare(
    code: str, *, autofix: bool, namespace: dict[str, Any], transform: Callable[[str], str]
) -> Prepared:
    """Looks at a cell, repairs it when asked to, and says whether it may run. `transform` is the shell's."""
    try:
        positions = Positions(code, transform(code))
    except SyntaxError as error:
        return _refused(code, validation.syntax_problem(error, Positions(code, code)))
    except Exception:
        # A transformer of the user's failed: the engine will fail on it too, and tell.
        return Prepared(code, lint.unchecked("the cell cannot be transformed into Python"))
    try:
        tree = validation.parse(positions.python)
        if len(positions.python) > CHECKED_CHARACTERS:
            return Prepared(
                code, lint.unchecked(f"more than {CHECKED_CHARACTERS} characters are not checked")
            )
        facts = survey(tree)
        return _checked(facts, namespace, positions, autofix, transform)
    except SyntaxError as error:
        return _refused(code, validation.syntax_problem(error, positions))
    except (validation.Unchecked, RecursionError, MemoryError) as error:
        return Prepared(code, lint.unchecked(str(error) or type(error).__name__))


def _checked(
    facts: Facts, namespace: Namespace, positions: Positions, autofix: bool, transform: Callable[[str], str]
) -> Prepared:
    code = positions.written
    redundant = lint.redundant_imports(facts, namespace)
    before = lint.check(facts, namespace, positions, redundant)
    chosen: Sequence[repairs.Fix] = ()
    fixed, after = code, before
    if autofix and len(code) <= repairs.SOURCE_CHARACTERS:
        chosen = repairs.fixes(facts, namespace, positions, redundant)
        if chosen:
            fixed = repairs.applied(code, chosen)
            again = _looked_at(fixed, namespace, transform)
            if again is None:
                chosen, fixed = (), code
            else:
                after = again
    problem = validation.anti_pattern(facts, namespace, positions, {fix.node for fix in chosen})
    if problem is not None:
        return _refused(code, problem)
    report = repairs.report(code, fixed, chosen, before, after) if chosen else None
    return Prepared(fixed, before, report)


def _looked_at(code: str, namespace: Namespace, transform: Callable[[str], str]) -> lint.Report | None:
    """The lint report on repaired code; None when the repair broke it."""
    try:
        positions = Positions(code, transform(code))
        facts = survey(validation.parse(positions.python))
        return lint.check(facts, namespace, positions, lint.redundant_imports(facts, namespace))
    except Exception:
        return None


def _refused(code: str, problem: validation.Problem) -> Prepared:
    refused = {
        "message": problem.message,
        "line": problem.line,
        "column": problem.column,
        "suggestions": list(problem.suggestions),
        "syntax": problem.is_syntax,
    }
    return Prepared(code, lint.refusal(problem), None, refused)
