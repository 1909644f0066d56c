"""Repairs of a cell's source: calls that were written as something else, imports that change nothing.

A repair replaces single characters, or the one import of a line: all other text, and the number of every
line, stay. It is proposed only where the names are known to stand for what it takes them for; a function that
is assigned over a function is left alone, as that is what people do on purpose.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple

from .lint import NAME_CHARACTERS, Redundant, Report, is_held
from .modules import MISSING, Namespace, is_module, root_of, value_of
from .positions import Positions, lines_of
from .scopes import Facts, Place
from .validation import MODULES, conversion, is_data

# Above this a report, which holds the cell three times, would be larger than an output may be.
SOURCE_CHARACTERS = 256 << 10
# More are no slip of the pen.
FIXES = 200
CONTEXT_LINES = 3

_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_BRACKET = re.compile(r"[ \t]*\[")
_REST = re.compile(r"[ \t]*;?[ \t]*(?=#|[\r\n]|\Z)")


class Edit(NamedTuple):
    """`text` in the place of the characters from `start` to `end` of the written cell."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Fix:
    """One repair."""

    rule: str
    message: str
    line: int
    # What it repairs.
    node: ast.AST
    edits: tuple[Edit, ...]


def fixes(
    facts: Facts, namespace: Namespace, positions: Positions, redundant: Iterable[Redundant]
) -> list[Fix]:
    """All repairs of a cell, in the order of its lines."""
    found = chain(
        (_assigned(node, facts, namespace, positions) for node in facts.assignments),
        (_subscripted(node, place, facts, namespace, positions) for node, place in facts.subscripts),
        (_removed(entry, positions) for entry in redundant if entry.is_removable),
    )
    chosen = islice((fix for fix in found if fix is not None), FIXES)
    return sorted(chosen, key=lambda fix: fix.edits)


def applied(written: str, chosen: Iterable[Fix]) -> str:
    """The cell with its repairs."""
    pieces: list[str] = []
    at = 0
    for edit in sorted(edit for fix in chosen for edit in fix.edits):
        pieces += written[at : edit.start], edit.text
        at = edit.end
    return "".join([*pieces, written[at:]])


def report(
    written: str, fixed: str, chosen: Sequence[Fix], lint_before: Report, lint_after: Report
) -> dict[str, Any]:
    """The autofix report in the form that callers know."""
    return {
        "enabled": True,
        "applied": True,
        "original_code": written,
        "fixed_code": fixed,
        "diff": diff(lines_of(written), lines_of(fixed)),
        "changes": [{"rule_id": fix.rule, "message": fix.message, "line": fix.line} for fix in chosen],
        "lint_before": lint_before,
        "lint_after": lint_after,
    }


# Calls.


def _assigned(node: ast.Assign, facts: Facts, namespace: Namespace, positions: Positions) -> Fix | None:
    """DA2001: `np.mean = values` becomes `np.mean(values)`."""
    target, value = node.targets[0], node.value
    if len(node.targets) > 1 or not (
        isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)
    ):
        return None
    function = _function(target, facts, namespace)
    if not callable(function) or not _is_argument(value, target.value.id in MODULES, facts, namespace):
        return None
    after, end = _end(target, positions), _end(node, positions)
    if after is None or end is None or (equals := _EQUALS.match(positions.written, after)) is None:
        return None
    edits = Edit(after, equals.end(), "("), Edit(end, end, ")")
    name = f"{target.value.id}.{target.attr}"[:NAME_CHARACTERS]
    return _fix("DA2001", f"Assignment to {name} made a call", node, edits, positions)


def _is_argument(value: ast.expr, is_refused: bool, facts: Facts, namespace: Namespace) -> bool:
    """Whether it was meant as the argument. Where assigning is refused anyway, unless it is a function."""
    if is_data(value):
        return True
    if isinstance(value, ast.Lambda | ast.Constant | ast.Yield | ast.YieldFrom):
        return False
    root = root_of(value)
    if root in facts.defined or root in facts.origins:
        return False
    held = MISSING if root in facts.rebound else value_of(value, namespace)
    if held is MISSING:
        return is_refused
    return held is not None and not callable(held)


def _subscripted(
    node: ast.Subscript, place: Place, facts: Facts, namespace: Namespace, positions: Positions
) -> Fix | None:
    """DA2002: `np.mean[values]` becomes `np.mean(values)`; DA2003: the line `int[x]` becomes `int(x)`."""
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if place in (Place.ANNOTATION, Place.STRING) or any(isinstance(part, ast.Slice) for part in parts):
        return None
    if place is Place.STATEMENT and (kind := conversion(node, facts, namespace)) is not None:
        rule, name = "DA2003", kind
    elif isinstance(node.value, ast.Attribute) and not _has_items(_function(node.value, facts, namespace)):
        rule, name = "DA2002", ast.unparse(node.value)[:NAME_CHARACTERS]
    else:
        return None
    after, end = _end(node.value, positions), _end(node, positions)
    if after is None or end is None or (bracket := _BRACKET.match(positions.written, after)) is None:
        return None
    if positions.written[end - 1] != "]":
        return None
    edits = Edit(bracket.end() - 1, bracket.end(), "("), Edit(end - 1, end, ")")
    return _fix(rule, f"Square brackets after {name} made parentheses", node, edits, positions)


def _function(node: ast.Attribute, facts: Facts, namespace: Namespace) -> Any:
    """What a module of the namespace holds, if the cell leaves the module's name alone."""
    root = root_of(node)
    if root is None or root in facts.rebound or not is_module(namespace.get(root)):
        return MISSING
    if not all(is_held(root, origin, namespace) for origin in facts.origins.get(root, ())):
        return MISSING
    return value_of(node, namespace)


def _has_items(function: Any) -> bool:
    """Whether brackets after it may be right. Classes may be generic."""
    kind = type(function)
    if not callable(function) or issubclass(kind, type):
        return True
    return any("__getitem__" in vars(base) for base in kind.__mro__)


# Imports.


def _removed(entry: Redundant, positions: Positions) -> Fix | None:
    """DA1101: an empty line in the place of the import; a comment after it stays."""
    node = entry.node
    start, end = positions.offset(node.lineno, node.col_offset), _end(node, positions)
    if start is None or end is None or (rest := _REST.match(positions.written, end)) is None:
        return None
    return _fix("DA1101", entry.message, node, (Edit(start, rest.end(), ""),), positions)


def _end(node: ast.expr | ast.stmt, positions: Positions) -> int | None:
    if node.end_lineno is None or node.end_col_offset is None:
        return None
    return positions.offset(node.end_lineno, node.end_col_offset)


def _fix(
    rule: str, message: str, node: ast.expr | ast.stmt, edits: tuple[Edit, ...], positions: Positions
) -> Fix:
    return Fix(rule, message, positions.written_line(node.lineno), node, edits)


# The difference.


def diff(before: list[str], after: list[str]) -> str:
    """A unified diff of two texts whose lines stand in the same places, so that nothing must be searched."""
    if before[-1] == after[-1] == "":
        before, after = before[:-1], after[:-1]
    changed = [at for at, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    lines = ["--- before.py", "+++ after.py"]
    for first, last in _hunks(changed):
        start, end = max(first - CONTEXT_LINES, 0), min(last + CONTEXT_LINES + 1, len(before))
        extent = f"{start + 1},{end - start}" if end - start > 1 else f"{start + 1}"
        lines.append(f"@@ -{extent} +{extent} @@")
        at = start
        while at < end:
            until = at
            while until < end and before[until] != after[until]:
                until += 1
            if until > at:
                lines += [f"-{line}" for line in before[at:until]]
                lines += [f"+{line}" for line in after[at:until]]
                at = until
            else:
                lines.append(f" {before[at]}")
                at += 1
    return "\n".join([*lines, ""])


def _hunks(changed: Sequence[int]) -> Iterable[tuple[int, int]]:
    """First and last changed line of each hunk: those whose context meets are one."""
    first = last = changed[0]
    for at in changed[1:]:
        if at - last > 2 * CONTEXT_LINES:
            yield first, last
            first = at
        last = at
    yield first, last
