"""Whether a cell may run: it must be Python, and must not be a call that is written as something else.

Three mistakes are looked for, which run without an error or with one that nobody understands; all on the
syntax tree, so that no text, comment, annotation or other name that looks alike is taken for one. Whatever
compiles and is none of the three passes. Code that cannot be checked (nested too deeply) passes too: the
engine will say so.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass

from .modules import Namespace, is_module, root_of
from .positions import Positions
from .scopes import Facts, Place

# The modules whose functions are taken for something to assign to.
MODULES = frozenset("random np pd plt sns stats".split())
CONVERSIONS = frozenset("int float str list dict tuple".split())
# Of these, the ones that have type parameters.
_GENERIC = frozenset("list dict tuple".split())
_MAKERS = frozenset("enumerate filter input map range reversed sorted zip".split())
_NUMPY = frozenset(("np", "numpy"))


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a cell is refused, and where: lines and columns of the written cell, from 1."""

    message: str
    line: int
    column: int | None
    suggestions: tuple[str, ...]
    is_syntax: bool


class Unchecked(Exception):
    """The cell cannot be looked at; its text says why."""


def parse(python: str) -> ast.Module:
    """The syntax tree of a cell that compiles. Raises `SyntaxError`, or `Unchecked`."""
    try:
        # Warnings about the code are the engine's to give, once.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(python)
            # As the engine does it: it runs some cells that are no module as a whole.
            for statement in tree.body:
                _compile(ast.Module([statement], []))
            return tree
    except (RecursionError, MemoryError, OverflowError):
        raise Unchecked("the code is nested too deeply to be checked") from None
    except SyntaxError:
        raise
    except ValueError as error:
        # Characters that source code cannot have.
        raise SyntaxError(str(error)) from None


def _compile(tree: ast.Module) -> None:
    try:
        compile(tree, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        # The parser counts characters, the compiler bytes.
        raise _InBytes(error.msg, ("<cell>", error.lineno, error.offset, None)) from None


class _InBytes(SyntaxError):
    pass


def syntax_problem(error: SyntaxError, positions: Positions) -> Problem:
    """A syntax error as it concerns the written cell."""
    line = max(error.lineno or 1, 1)
    offset = max(error.offset or 1, 1) - 1
    column = offset if isinstance(error, _InBytes) else positions.byte_column(line, offset)
    written, column_in_line = positions.place(line, column)
    # Parts of it name other lines.
    text = re.sub(
        r"\bon line ([0-9]{1,9})\b",
        lambda match: f"on line {positions.written_line(int(match[1]))}",
        str(error.msg)[:1_000],
    )
    message = f"Syntax Error on line {written}: {text}"
    return Problem(message, written, column_in_line, _hints(str(error.msg)), is_syntax=True)


_HINTS = (
    ("was never closed", "Close every bracket that is opened"),
    ("does not match opening", "Close every bracket with one of its own kind"),
    ("unmatched", "Remove the bracket that closes nothing, or open one before it"),
    ("unterminated", "Close the string with the quotes that opened it"),
    ("EOL while scanning", "Close the string with the quotes that opened it"),
    ("expected ':'", "End the line of if, for, while, def, class, try and with by a colon"),
    ("indent", "Indent the lines of a block alike, by spaces only"),
    ("forgot a comma", "Put a comma between the items"),
    ("Maybe you meant '=='", "Compare with ==, assign with ="),
    ("cannot assign", "Put a name on the left of the ="),
    ("outside function", "Put return and yield into a function; a cell shows values by print() or display()"),
    ("outside loop", "Use break only within a loop"),
    ("not properly in loop", "Use continue only within a loop"),
    ("Missing parentheses", "Call print as a function: print(value)"),
)
_GENERAL_HINT = "Check for a missing colon, comma, bracket or quote on this line and the one before"


def _hints(text: str) -> tuple[str, ...]:
    found = [hint for part, hint in _HINTS if part in text]
    return tuple(dict.fromkeys(found)) or (_GENERAL_HINT,)


def anti_pattern(
    facts: Facts, namespace: Namespace, positions: Positions, cured: Collection[ast.AST]
) -> Problem | None:
    """The first of the three mistakes that is none of `cured`, which are about to be mended."""
    found: list[tuple[ast.AST, str, str, str]] = [
        (node, "Function call written as assignment", f"{name}(...)", f"{name} = ...")
        for node in facts.assignments
        if (name := assigned_function(node, facts, namespace)) is not None
    ]
    for subscript, place in facts.subscripts:
        if place is Place.STRING:
            continue
        if _is_choice(subscript, facts, namespace):
            name = ast.unparse(subscript.value)
            wrong = "Square brackets used instead of parentheses"
            found.append((subscript, wrong, f"{name}(options)", f"{name}[options]"))
        elif place is Place.ASSIGNED and (kind := conversion(subscript, facts, namespace)) is not None:
            wrong = "Type conversion with wrong syntax"
            found.append((subscript, wrong, f"{kind}(value)", f"{kind}[value]"))
    refused = [entry for entry in found if entry[0] not in cured]
    if not refused:
        return None
    node, wrong, right, written = min(refused, key=lambda entry: _start(entry[0]))
    line, column = positions.place(*_start(node))
    return Problem(
        f"Anti-pattern detected on line {line}: {wrong}",
        line,
        column,
        (f"CORRECT: {right}", f"WRONG: {written}"),
        is_syntax=False,
    )


def _start(node: ast.AST) -> tuple[int, int]:
    assert isinstance(node, (ast.stmt, ast.expr))
    return node.lineno, node.col_offset


def assigned_function(node: ast.Assign, facts: Facts, namespace: Namespace) -> str | None:
    """`np.mean` in `np.mean = …`, for the modules where this is refused."""
    for target in node.targets:
        if (
            isinstance(target, ast.Attribute)
            and isinstance(target.value, ast.Name)
            and target.value.id in MODULES
            and may_be_module(target.value.id, facts, namespace)
        ):
            return f"{target.value.id}.{target.attr}"
    return None


def may_be_module(name: str, facts: Facts, namespace: Namespace) -> bool:
    """False when it is known that the name stands for something else."""
    if name in facts.rebound:
        return False
    value = namespace.get(name)
    return value is None or is_module(value) or name in facts.origins


def _is_choice(node: ast.Subscript, facts: Facts, namespace: Namespace) -> bool:
    """`random.choice[…]`, also numpy's."""
    function = node.value
    if not (isinstance(function, ast.Attribute) and function.attr == "choice"):
        return False
    owner, root = function.value, root_of(function)
    if isinstance(owner, ast.Attribute):
        if owner.attr != "random" or root not in _NUMPY or not isinstance(owner.value, ast.Name):
            return False
    elif root != "random":
        return False
    return root is not None and may_be_module(root, facts, namespace)


def conversion(node: ast.Subscript, facts: Facts, namespace: Namespace) -> str | None:
    """`int` in `int[…]`, unless the name means something else here, or this is a type such as `list[int]`."""
    if not (isinstance(node.value, ast.Name) and node.value.id in CONVERSIONS):
        return None
    name = node.value.id
    own = vars(builtins)[name]
    if name in facts.rebound or namespace.get(name, own) is not own or name in facts.origins:
        return None
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name in _GENERIC and not any(is_data(part) and not _is_text(part) for part in parts):
        return None
    return name


def is_data(node: ast.expr) -> bool:
    """Whether it is evidently a value, neither a type nor a function."""
    if isinstance(node, ast.Constant):
        return node.value is not None and node.value is not ...
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _MAKERS
    if isinstance(node, ast.UnaryOp):
        return is_data(node.operand)
    return isinstance(
        node,
        ast.List
        | ast.Tuple
        | ast.Set
        | ast.Dict
        | ast.ListComp
        | ast.SetComp
        | ast.DictComp
        | ast.GeneratorExp
        | ast.JoinedStr
        | ast.Compare
        | ast.Slice,
    )


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
