"""The user's variables in six categories: what each is, how large, and which columns it has.

Complete and cheap. Nothing here runs user code: only types that Python, numpy, pandas and polars define are
looked into, by those types' own means, whatever a subclass says of itself.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .cells import integer, key_text, label, number, text
from .lazy import AT_HAND, LazyModule
from .packages import class_name, comes_from, loaded_class
from .tables import is_frame, plain_frame

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell

Info = dict[str, Any]

_ARRAYS = (
    ("numpy", "ndarray"),
    ("pandas", "Series"),
    ("pandas", "Index"),
    ("polars", "Series"),
    ("torch", "Tensor"),
)


def info(shell: Shell) -> dict[str, Any]:
    """All variables, by category and name."""
    found: dict[str, dict[str, Info]] = {
        category: {} for category in ("dataframes", "modules", "numbers", "dicts", "arrays", "other")
    }
    for name, value in user_variables(shell):
        try:
            category, told = _described(value)
        except Exception:
            # One that a thread is changing, or whose package has changed under it.
            category, told = "other", {"type": "unknown", "display": "unknown"}
        found[category][name] = told
    return found


def user_variables(shell: Shell) -> Iterator[tuple[str, Any]]:
    """Names and values that are shown: no functions and classes, nothing private, nothing of IPython's."""
    hidden = shell.user_ns_hidden
    for name, value in list(shell.user_ns.items()):
        if type(name) is not str or name.startswith("_") or value is None or callable(value):
            continue
        is_module = issubclass(type(value), types.ModuleType)
        if hidden.get(name) is value and not is_module:
            continue
        if issubclass(type(value), LazyModule) and name not in AT_HAND:
            continue
        yield name, value


def shape_of(value: Any, base: Any) -> tuple[int, ...]:
    """The shape as the class of the package tells it."""
    return tuple(int(length) for length in _get(base, "shape", value))


def columns_of(frame: Any) -> list[Any]:
    """The names of all columns of a plain frame."""
    return [label(name) for name in frame.columns.tolist()]


def dtypes_of(frame: Any) -> dict[str, str]:
    """Their dtypes."""
    return {key_text(name): text(kind, 200) for name, kind in frame.dtypes.items()}


def _described(value: Any) -> tuple[str, Info]:
    cls = type(value)
    kind = class_name(cls)
    if cls is int or cls is float:
        return "numbers", _number(kind, value)
    if cls is dict:
        return "dicts", {"type": "dict", "size": len(value), "display": f"dict ({len(value)} items)"}
    if cls is list:
        return "arrays", {"type": "list", "size": len(value), "display": f"list ({len(value)} items)"}
    if issubclass(cls, types.ModuleType):
        name = vars(value).get("__name__")
        shown = name if type(name) is str else kind
        return "modules", {"type": "module", "module_name": shown, "display": shown}
    if is_frame(value):
        frame = plain_frame(value)
        return "dataframes", _frame(kind, frame.shape, columns_of(frame), dtypes_of(frame))
    return _of_package(value, kind)


def _of_package(value: Any, kind: str) -> tuple[str, Info]:
    if comes_from(value, "numpy", "integer"):
        return "numbers", _number(kind, int(value))
    if comes_from(value, "numpy", "floating"):
        return "numbers", _number(kind, float(value))
    for module, name in _ARRAYS:
        if comes_from(value, module, name):
            shape = shape_of(value, loaded_class(module, name))
            return "arrays", {"type": kind, "shape": list(shape), "display": f"{kind} {shape}"}
    if comes_from(value, "polars", "DataFrame"):
        dtypes = {name: str(dtype) for name, dtype in value.schema.items()}
        return "dataframes", _frame(kind, value.shape, list(dtypes), dtypes)
    return "other", {"type": kind, "display": kind}


def _frame(kind: str, shape: tuple[int, int], columns: list[Any], dtypes: dict[str, str]) -> Info:
    display = f"{kind} {shape}"
    return {"type": kind, "shape": list(shape), "columns": columns, "dtypes": dtypes, "display": display}


def _number(kind: str, value: Any) -> Info:
    if isinstance(value, float):
        is_short = not value or 0.01 <= abs(value) < 1000
        display = f"{value:.2f}" if is_short else f"{value:.2e}"
        return {"type": kind, "value": number(value), "display": display}
    plain = integer(value)
    return {"type": kind, "value": plain, "display": str(plain)}


def _get(base: Any, name: str, value: Any) -> Any:
    """An attribute by the class's own descriptor: a subclass may define another."""
    for cls in base.__mro__:
        if name in vars(cls):
            return vars(cls)[name].__get__(value, type(value))
    raise AttributeError(name)
