"""Classes of packages that are loaded. Nothing is imported, and nothing is asked of a value itself."""

from __future__ import annotations

import sys
from typing import Any

_class_name = type.__dict__["__name__"].__get__


def loaded_class(module: str, name: str) -> Any:
    """A class of a module, or None where the module is not loaded or has none of that name."""
    cls = getattr(sys.modules.get(module), name, None)
    return cls if isinstance(cls, type) else None


def comes_from(value: Any, module: str, name: str) -> bool:
    """Whether a value's class is, or is derived from, that class."""
    cls = loaded_class(module, name)
    # Not `isinstance`, which asks the value for its class.
    return cls is not None and issubclass(type(value), cls)


def class_name(cls: type) -> str:
    """The name of a class, whatever its metaclass says."""
    return str(_class_name(cls))
