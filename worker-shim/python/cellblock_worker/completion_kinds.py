"""What a completion is: a function, a class, a module, a property, an instance.

IPython says `variable` and `attribute`. The values are looked up statically, so that no property, no
`__getattr__` and no descriptor of the user's runs for it.
"""

from __future__ import annotations

import builtins
import inspect
import keyword
import re
import types
from typing import Any

from .names import kind_of

# What IPython calls a thing when it has not looked at it.
_VAGUE = frozenset(["variable", "attribute", "", "<unknown>", None])
_PATH = re.compile(r"([^\W\d]\w*(?:\s*\.\s*[^\W\d]\w*)*)\s*\.?\s*$")
_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    classmethod,
    staticmethod,
)
_PROPERTIES = (property, types.GetSetDescriptorType, types.MemberDescriptorType)
_NOT_FOUND = object()


class Kinds:
    """The kinds of the candidates for one place in some code."""

    def __init__(self, namespace: dict[str, Any], before: str) -> None:
        self._namespace = namespace
        # What stands before the dot, looked up once for all candidates.
        self._owner = self._looked_up(before)

    def of(self, text: str, told: str | None) -> str:
        """The kind of a candidate of which IPython told something."""
        if told not in _VAGUE:
            return str(told)
        if not text.startswith("."):
            if keyword.iskeyword(text):
                return "keyword"
            value = self._namespace.get(text, vars(builtins).get(text, _NOT_FOUND))
            if value is not _NOT_FOUND:
                return _kind(value)
        if self._owner is not _NOT_FOUND:
            value = _attribute(self._owner, text.removeprefix("."))
            if value is not _NOT_FOUND:
                return _kind(value)
        return "" if told in (None, "<unknown>") else str(told)

    def _looked_up(self, before: str) -> Any:
        found = _PATH.search(before)
        if found is None:
            return _NOT_FOUND
        first, *rest = (part.strip() for part in found[1].split("."))
        value = self._namespace.get(first, _NOT_FOUND)
        for name in rest:
            if value is not _NOT_FOUND:
                value = _attribute(value, name)
        return value


def _attribute(owner: Any, name: str) -> Any:
    if type(owner) is types.ModuleType:
        return vars(owner).get(name, _NOT_FOUND)
    try:
        return inspect.getattr_static(owner, name, _NOT_FOUND)
    except Exception:
        # A class in the middle of being changed; a metaclass that is no good.
        return _NOT_FOUND


def _kind(value: Any) -> str:
    cls = type(value)
    if issubclass(cls, types.ModuleType):
        return "module"
    if issubclass(cls, type):
        return "class"
    if issubclass(cls, _FUNCTIONS) or kind_of(value) == "numpy.ufunc":
        return "function"
    return "property" if issubclass(cls, _PROPERTIES) else "instance"
