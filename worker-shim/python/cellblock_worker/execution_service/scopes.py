"""What a cell binds, uses and imports: one walk over its syntax tree, for every rule that looks at code.

Scopes are Python's: a class's names are seen in its own body only, a comprehension's targets only within it.
The order of statements is not looked at: a name that is bound anywhere in a scope counts as bound everywhere
in it. The walk has its own stack, as code may be nested deeper than Python's goes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto

Import = ast.Import | ast.ImportFrom
# Of something imported: ("import", module, "as" or "") or ("from", module, name).
Origin = tuple[str, str, str]
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Place(Enum):
    """Where an expression stands, as far as a rule cares."""

    PLAIN = auto()
    ASSIGNED = auto()  # in what is assigned
    STATEMENT = auto()  # it is a whole statement
    ANNOTATION = auto()
    STRING = auto()  # in a formatted string


class Kind(Enum):
    """What a scope belongs to."""

    FUNCTION = auto()  # or the cell itself
    CLASS = auto()
    INNER = auto()  # a comprehension, or type parameters: `:=` binds outside of it


class Scope:
    """The names that are bound in one scope."""

    __slots__ = ("bound", "is_guarded", "kind", "parent")

    def __init__(self, parent: Scope | None, kind: Kind, *, is_guarded: bool = False) -> None:
        self.parent = parent
        self.kind = kind
        self.bound: set[str] = set()
        # Within `try: … except NameError`, where a name may well be unknown.
        self.is_guarded: bool = is_guarded or (parent is not None and parent.is_guarded)

    def guarded(self) -> Scope:
        """The same scope, seen from within such a `try`."""
        twin = Scope(self.parent, self.kind, is_guarded=True)
        twin.bound = self.bound
        return twin

    def resolves(self, name: str) -> bool:
        """Whether the cell binds the name where it is seen from here."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.bound and (scope is self or scope.kind is not Kind.CLASS):
                return True
            scope = scope.parent
        return False


@dataclass(frozen=True, slots=True)
class Imported:
    """One name that an import binds."""

    node: Import
    alias: ast.alias
    name: str

    @property
    def origin(self) -> Origin:
        """What is imported: equal for imports that bind the same thing."""
        if isinstance(self.node, ast.ImportFrom):
            return ("from", "." * self.node.level + (self.node.module or ""), self.alias.name)
        return ("import", self.alias.name, "as" if self.alias.asname else "")

    @property
    def is_future(self) -> bool:
        """Whether it is a future statement, which does more than bind a name."""
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"


@dataclass(slots=True)
class Facts:
    """What was seen of a cell."""

    tree: ast.Module
    loads: list[tuple[ast.Name, Scope]] = field(default_factory=list)
    imports: list[Imported] = field(default_factory=list)
    # By name, what imports bind to it.
    origins: dict[str, set[Origin]] = field(default_factory=dict)
    # Names of functions and classes that the cell defines.
    defined: set[str] = field(default_factory=set)
    # Assignments with an attribute among their targets.
    assignments: list[ast.Assign] = field(default_factory=list)
    subscripts: list[tuple[ast.Subscript, Place]] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    # Names that something other than an import binds, or deletes, in whatever scope.
    rebound: set[str] = field(default_factory=set)
    # Names may come and go in a way that is not seen here: star imports, `exec`, magics.
    is_dynamic: bool = False


def survey(tree: ast.Module) -> Facts:
    """Looks at all of a cell."""
    return _Survey(tree).facts


# With these, names are bound or looked up by their text. `get_ipython` is left over when a magic is not
# one of the harmless ones.
_DYNAMIC = frozenset("exec globals locals vars get_ipython".split())
# Magics that bind no name of the user's.
_HARMLESS_MAGICS = frozenset(
    "cd conda config env history load_ext ls matplotlib mkdir pip pwd reload_ext timeit who whos".split()
)
_WORD = re.compile(r"[^\W\d]\w*")
_LEAVES: frozenset[type] = frozenset(
    leaf
    for base in (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
    for leaf in base.__subclasses__()
) | {ast.Constant, ast.Pass, ast.Break, ast.Continue, ast.Nonlocal}


class _Survey:
    def __init__(self, tree: ast.Module) -> None:
        self.facts = Facts(tree)
        self._module = Scope(None, Kind.FUNCTION)
        self._stack: list[tuple[ast.AST, Scope, Place]] = []
        self._all(tree.body, self._module, Place.PLAIN)
        while self._stack:
            node, scope, place = self._stack.pop()
            visit = _VISITS.get(type(node))
            if visit is None:
                self._children(node, scope, place)
            else:
                visit(self, node, scope, place)
        self.facts.is_dynamic = self.facts.is_dynamic or not _DYNAMIC.isdisjoint(self.facts.used)

    def _children(self, node: ast.AST, scope: Scope, place: Place) -> None:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                self._all(value, scope, place)
            elif isinstance(value, ast.AST) and type(value) not in _LEAVES:
                self._stack.append((value, scope, place))

    def _all(self, nodes: Iterable[object], scope: Scope, place: Place) -> None:
        for node in nodes:
            if isinstance(node, ast.AST) and type(node) not in _LEAVES:
                self._stack.append((node, scope, place))

    def _one(self, node: ast.AST | None, scope: Scope, place: Place) -> None:
        if node is not None:
            self._stack.append((node, scope, place))

    def _bind(self, name: str | None, scope: Scope) -> None:
        if name is not None:
            scope.bound.add(name)
            self.facts.rebound.add(name)

    def _load(self, node: ast.Name, scope: Scope) -> None:
        self.facts.used.add(node.id)
        if not scope.is_guarded:
            self.facts.loads.append((node, scope))

    # Names.

    def name(self, node: ast.Name, scope: Scope, place: Place) -> None:
        if isinstance(node.ctx, ast.Load):
            self._load(node, scope)
        elif isinstance(node.ctx, ast.Store):
            self._bind(node.id, scope)
        else:
            self.facts.rebound.add(node.id)

    def declared_global(self, node: ast.Global, scope: Scope, place: Place) -> None:
        for name in node.names:
            self._bind(name, self._module)

    def named_expression(self, node: ast.NamedExpr, scope: Scope, place: Place) -> None:
        target = scope
        while target.kind is Kind.INNER and target.parent is not None:
            target = target.parent
        self._bind(node.target.id, target)
        self._one(node.value, scope, Place.ASSIGNED)

    def capture(self, node: ast.MatchAs | ast.MatchStar, scope: Scope, place: Place) -> None:
        self._bind(node.name, scope)
        self._children(node, scope, place)

    def mapping(self, node: ast.MatchMapping, scope: Scope, place: Place) -> None:
        self._bind(node.rest, scope)
        self._children(node, scope, place)

    # Assignments.

    def assign(self, node: ast.Assign, scope: Scope, place: Place) -> None:
        if any(isinstance(target, ast.Attribute) for target in node.targets):
            self.facts.assignments.append(node)
        self._all(node.targets, scope, place)
        self._one(node.value, scope, Place.ASSIGNED)

    def annotated(self, node: ast.AnnAssign, scope: Scope, place: Place) -> None:
        self._one(node.target, scope, place)
        self._one(node.annotation, scope, Place.ANNOTATION)
        self._one(node.value, scope, Place.ASSIGNED)

    def augmented(self, node: ast.AugAssign, scope: Scope, place: Place) -> None:
        if isinstance(node.target, ast.Name):
            # It needs the name, and makes none that was not there.
            self._load(node.target, scope)
            self.facts.rebound.add(node.target.id)
        else:
            self._one(node.target, scope, place)
        self._one(node.value, scope, Place.ASSIGNED)

    # Scopes.

    def function(self, node: _Function, scope: Scope, place: Place) -> None:
        arguments = node.args
        self._all((*arguments.defaults, *arguments.kw_defaults), scope, place)
        if not isinstance(node, ast.Lambda):
            self._bind(node.name, scope)
            self.facts.defined.add(node.name)
            self._all(node.decorator_list, scope, place)
            scope = self._with_type_parameters(node, scope)
            self._one(node.returns, scope, Place.ANNOTATION)
        inner = Scope(scope, Kind.FUNCTION)
        for argument in (
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
            *filter(None, (arguments.vararg, arguments.kwarg)),
        ):
            self._bind(argument.arg, inner)
            self._one(argument.annotation, scope, Place.ANNOTATION)
        self._all(node.body if isinstance(node.body, list) else (node.body,), inner, place)

    def class_(self, node: ast.ClassDef, scope: Scope, place: Place) -> None:
        self._bind(node.name, scope)
        self.facts.defined.add(node.name)
        self._all(node.decorator_list, scope, place)
        scope = self._with_type_parameters(node, scope)
        self._all((*node.bases, *node.keywords), scope, place)
        self._all(node.body, Scope(scope, Kind.CLASS), place)

    def type_alias(self, node: ast.AST, scope: Scope, place: Place) -> None:
        # Python 3.12 has these nodes; 3.11 has no class to name them by.
        self._one(getattr(node, "name", None), scope, place)
        scope = self._with_type_parameters(node, scope)
        self._one(getattr(node, "value", None), scope, Place.ANNOTATION)

    def _with_type_parameters(self, node: ast.AST, scope: Scope) -> Scope:
        parameters = getattr(node, "type_params", None)
        if not parameters:
            return scope
        inner = Scope(scope, Kind.INNER)
        for parameter in parameters:
            self._bind(parameter.name, inner)
            self._children(parameter, inner, Place.ANNOTATION)
        return inner

    def comprehension(self, node: _Comprehension, scope: Scope, place: Place) -> None:
        inner = Scope(scope, Kind.INNER)
        for number, generator in enumerate(node.generators):
            # The first one's source is computed outside.
            self._one(generator.iter, inner if number else scope, place)
            self._one(generator.target, inner, place)
            self._all(generator.ifs, inner, place)
        if isinstance(node, ast.DictComp):
            self._all((node.key, node.value), inner, place)
        else:
            self._all((node.elt,), inner, place)

    def handler(self, node: ast.ExceptHandler, scope: Scope, place: Place) -> None:
        self._bind(node.name, scope)
        self._children(node, scope, place)

    def try_(self, node: ast.Try | ast.TryStar, scope: Scope, place: Place) -> None:
        self._all(node.body, scope.guarded() if _catches_name_errors(node.handlers) else scope, place)
        self._all((*node.handlers, *node.orelse, *node.finalbody), scope, place)

    # Imports, and what else is looked for.

    def import_(self, node: Import, scope: Scope, place: Place) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.facts.is_dynamic = True
                continue
            name = alias.asname or alias.name.partition(".")[0]
            scope.bound.add(name)
            imported = Imported(node, alias, name)
            self.facts.imports.append(imported)
            self.facts.origins.setdefault(name, set()).add(imported.origin)

    def subscript(self, node: ast.Subscript, scope: Scope, place: Place) -> None:
        if isinstance(node.ctx, ast.Load):
            self.facts.subscripts.append((node, place))
        self._children(node, scope, Place.PLAIN if place is Place.STATEMENT else place)

    def statement(self, node: ast.Expr, scope: Scope, place: Place) -> None:
        is_subscript = isinstance(node.value, ast.Subscript)
        self._all((node.value,), scope, Place.STATEMENT if is_subscript else place)

    def string(self, node: ast.AST, scope: Scope, place: Place) -> None:
        self._children(node, scope, Place.STRING)

    def call(self, node: ast.Call, scope: Scope, place: Place) -> None:
        if (method := _shell_method(node.func)) is None:
            self._children(node, scope, place)
            return
        texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        # Magics and commands use names in their text.
        self.facts.used.update(word for text in texts for word in _WORD.findall(str(text)))
        if method in ("system", "getoutput") or (
            method == "run_line_magic" and texts and texts[0] in _HARMLESS_MAGICS
        ):
            self._all(node.args, scope, place)
        else:
            self._children(node, scope, place)


def _catches_name_errors(handlers: list[ast.ExceptHandler]) -> bool:
    for handler in handlers:
        caught = handler.type
        types = caught.elts if isinstance(caught, ast.Tuple) else [caught]
        if any(kind is None or (isinstance(kind, ast.Name) and kind.id == "NameError") for kind in types):
            return True
    return False


def _shell_method(function: ast.expr) -> str | None:
    """The name of the method in `get_ipython().method`."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call):
        shell = function.value.func
        if isinstance(shell, ast.Name) and shell.id == "get_ipython":
            return function.attr
    return None


_VISITS: dict[type, Callable[..., None]] = {
    ast.Name: _Survey.name,
    ast.Global: _Survey.declared_global,
    ast.NamedExpr: _Survey.named_expression,
    ast.MatchAs: _Survey.capture,
    ast.MatchStar: _Survey.capture,
    ast.MatchMapping: _Survey.mapping,
    ast.Assign: _Survey.assign,
    ast.AnnAssign: _Survey.annotated,
    ast.AugAssign: _Survey.augmented,
    ast.FunctionDef: _Survey.function,
    ast.AsyncFunctionDef: _Survey.function,
    ast.Lambda: _Survey.function,
    ast.ClassDef: _Survey.class_,
    ast.ListComp: _Survey.comprehension,
    ast.SetComp: _Survey.comprehension,
    ast.DictComp: _Survey.comprehension,
    ast.GeneratorExp: _Survey.comprehension,
    ast.ExceptHandler: _Survey.handler,
    ast.Try: _Survey.try_,
    ast.TryStar: _Survey.try_,
    ast.Import: _Survey.import_,
    ast.ImportFrom: _Survey.import_,
    ast.Subscript: _Survey.subscript,
    ast.Expr: _Survey.statement,
    ast.JoinedStr: _Survey.string,
    ast.Call: _Survey.call,
}
# Of later versions of Python.
for _name, _visit in (("TypeAlias", _Survey.type_alias), ("TemplateStr", _Survey.string)):
    if hasattr(ast, _name):
        _VISITS[getattr(ast, _name)] = _visit
