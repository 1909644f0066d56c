"""Advice about a cell: names that nothing defines, imports that nobody uses or that change nothing.

When in doubt there is no advice: a name counts as defined when anything in the cell may define it, whatever
the order; where names can come and go unseen (`exec`, star imports, most magics) none is called undefined.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .modules import MISSING, Namespace, imported_value
from .positions import Positions
from .scopes import Facts, Import, Imported, Origin
from .validation import Problem

ISSUES = 200
NAME_CHARACTERS = 200

Issue = dict[str, Any]
Report = dict[str, Any]

# What a cell has without anybody's doing: `__name__` and its like, IPython's `_`, `_3`, `_i`, `_i3`.
_GIVEN = re.compile(r"__\w*__|_{1,3}|_i{0,3}[0-9]*")


def report(issues: Iterable[Issue]) -> Report:
    """The lint report in the form that callers know."""
    return {"engine": "builtin", "issues": list(issues)[:ISSUES]}


def issue(
    severity: str,
    message: str,
    rule: str,
    place: tuple[int | None, int | None],
    suggestion: str | None = None,
    *,
    fixable: bool = False,
) -> Issue:
    """One entry of a report; `place` is line and column, from 1."""
    return {
        "severity": severity,
        "message": message,
        "rule_id": rule,
        "line": place[0],
        "column": place[1],
        "suggestion": suggestion,
        "fixable": fixable,
    }


def refusal(problem: Problem) -> Report:
    """The report on a cell that may not run."""
    place = problem.line, problem.column
    hints = (issue("info", hint, "DA0002_SUGGESTION", place, hint) for hint in problem.suggestions)
    return report([issue("error", problem.message, "DA0002", place), *hints])


def unchecked(reason: str) -> Report:
    """The report on a cell that could not be looked at."""
    return report([issue("warning", reason, "DA0001", (None, None))])


def check(facts: Facts, namespace: Namespace, positions: Positions, redundant: Iterable[Redundant]) -> Report:
    """The advice about a cell, in the order of its lines."""
    found = [*_undefined(facts, namespace), *_unused(facts), *map(_told, redundant)]
    # Cut before places are computed, which takes long in a long line.
    found.sort(key=lambda advice: (advice.node.lineno, advice.node.col_offset, advice.rule))
    return report(
        issue(
            advice.severity,
            advice.message,
            advice.rule,
            positions.place(advice.node.lineno, advice.node.col_offset),
            advice.suggestion,
            fixable=advice.fixable,
        )
        for advice in found[:ISSUES]
    )


@dataclass(frozen=True, slots=True)
class _Advice:
    rule: str
    severity: str
    message: str
    node: ast.expr | ast.stmt
    suggestion: str
    fixable: bool = False


def _undefined(facts: Facts, namespace: Namespace) -> Iterable[_Advice]:
    if facts.is_dynamic:
        return
    first: dict[str, ast.Name] = {}
    known = vars(builtins)
    for node, scope in facts.loads:
        name = node.id
        if name in known or name in namespace or scope.resolves(name) or _GIVEN.fullmatch(name):
            continue
        seen = first.setdefault(name, node)
        if (node.lineno, node.col_offset) < (seen.lineno, seen.col_offset):
            first[name] = node
    for name, node in first.items():
        message = f"Possibly undefined name: '{name[:NAME_CHARACTERS]}'"
        yield _Advice("DA1002", "warning", message, node, "Define or import it first, or check its spelling")


def _unused(facts: Facts) -> Iterable[_Advice]:
    for found in facts.imports:
        # A future statement is used by being there; `import x as x` says that others use it.
        if found.name in facts.used or found.is_future or found.alias.asname == found.alias.name:
            continue
        message = f"Unused import: '{found.name[:NAME_CHARACTERS]}'"
        yield _Advice("DA1001", "info", message, found.node, "Remove it if no other cell uses it")


def _told(found: Redundant) -> _Advice:
    suggestion = "Remove it: the name is bound to the same thing already"
    return _Advice("DA1101", "info", found.message, found.node, suggestion, found.is_removable)


@dataclass(frozen=True, slots=True)
class Redundant:
    """An import that binds a name to what it is bound to."""

    node: Import
    message: str
    # Nothing can have come between, and nothing else stands in the statement or its line.
    is_removable: bool


def redundant_imports(facts: Facts, namespace: Namespace) -> list[Redundant]:
    """Those among the statements of the cell itself; none when its names may change unseen."""
    if facts.is_dynamic or not facts.imports:
        return []
    of_statement: dict[ast.stmt, list[Imported]] = {}
    for imported in facts.imports:
        of_statement.setdefault(imported.node, []).append(imported)
    found: list[Redundant] = []
    before: set[str] = set()
    is_quiet = True
    statements_of_line = Counter(line for statement in facts.tree.body for line in _ends(statement))
    for statement in facts.tree.body:
        for imported in of_statement.get(statement, ()):
            name = imported.name
            if len(facts.origins[name]) == 1 and name not in facts.rebound and not imported.is_future:
                is_alone = len(_ends(statement)) == 1 and statements_of_line[statement.lineno] == 1
                is_removable = is_quiet and is_alone and len(imported.node.names) == 1
                shown = f"Redundant import: '{name[:NAME_CHARACTERS]}'"
                if name in before:
                    found.append(Redundant(imported.node, f"{shown} is imported twice", is_removable))
                elif is_held(name, imported.origin, namespace):
                    found.append(Redundant(imported.node, f"{shown} is there already", is_removable))
            before.add(name)
        is_quiet = is_quiet and _is_quiet(statement)
    return found


def is_held(name: str, origin: Origin, namespace: Namespace) -> bool:
    """Whether the namespace holds just what the import would bind; a lazy stand-in is not that."""
    held = namespace.get(name, MISSING)
    return held is not MISSING and imported_value(origin) is held


def _ends(statement: ast.stmt) -> set[int]:
    """The first and the last line."""
    return {statement.lineno, statement.end_lineno or statement.lineno}


def _is_quiet(statement: ast.stmt) -> bool:
    """Whether no module or name of others can change while it runs (`del sys.modules["x"]; import x`)."""
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=targets, value=ast.Constant() | ast.Name()):
            return all(isinstance(target, ast.Name) for target in targets)
    return False
