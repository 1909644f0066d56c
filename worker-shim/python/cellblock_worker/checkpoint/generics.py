"""Type variables and their kin made in cells, which pickle saves as a name that leads nowhere elsewhere."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reduction

# Newer than the oldest Python.
_alias_type: Any = getattr(typing, "TypeAliasType", None)
_no_default: Any = getattr(typing, "NoDefault", None)


def _reduce(pickler: GraphPickler, variable: Any) -> Reduction:
    if pickler.references.leads_to(variable.__module__, variable.__name__, variable):
        return NotImplemented
    kind = type(variable)
    flags: dict[str, Any] = {}
    positional: tuple[Any, ...] = ()
    if kind is typing.TypeVar:
        positional = variable.__constraints__
    if kind is not typing.TypeVarTuple:
        flags = {"bound": variable.__bound__}
        flags["covariant"], flags["contravariant"] = variable.__covariant__, variable.__contravariant__
        if getattr(variable, "__infer_variance__", False):
            flags["infer_variance"] = True
    default = getattr(variable, "__default__", _no_default)
    if default is not _no_default:
        flags["default"] = default
    return make_variable, (kind, variable.__name__, positional, flags, variable.__module__)


def make_variable(
    kind: Any, name: str, positional: tuple[Any, ...], flags: dict[str, Any], module: str
) -> Any:
    """A TypeVar, ParamSpec or TypeVarTuple."""
    made = kind(name, *positional, **flags)
    made.__module__ = module
    return made


def _reduce_new_type(pickler: GraphPickler, made: Any) -> Reduction:
    if pickler.references.leads_to(made.__module__, made.__qualname__, made):
        return NotImplemented
    return typing.NewType, (made.__name__, made.__supertype__), vars(made), None, None, fill_attributes


def fill_attributes(obj: Any, state: dict[str, Any]) -> None:
    """The `__dict__`, past any `__setattr__`."""
    obj.__dict__.update(state)


def _reduce_alias(pickler: GraphPickler, alias: Any) -> Reduction:
    if pickler.references.leads_to(alias.__module__, alias.__name__, alias):
        return NotImplemented
    return make_alias, (alias.__name__, alias.__value__, alias.__type_params__)


def make_alias(name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    """What `type X = …` makes."""
    return _alias_type(name, value, type_params=parameters)


REDUCERS: dict[Any, Any] = {
    typing.TypeVar: _reduce,
    typing.ParamSpec: _reduce,
    typing.TypeVarTuple: _reduce,
    typing.NewType: _reduce_new_type,
    **({_alias_type: _reduce_alias} if _alias_type else {}),
}
