"""What is saved by its name: whatever a fresh process finds again under `module.qualname`.

Found means found by identity: what was redefined, reloaded or patched since is another object and goes by
value. Nothing of the user's namespace is ever a reference, since a fresh process has none of it.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import FunctionType, MethodType, ModuleType
from typing import Any

# The worker's package.
_OWN = __name__.partition(".")[0]

_type_name = type.__dict__["__qualname__"].__get__
_type_module = type.__dict__["__module__"].__get__
_module_dict = vars(ModuleType)["__dict__"].__get__


def module_of(cls: type) -> str | None:
    """A class's `__module__`, not asking a metaclass of the user's."""
    try:
        name = _type_module(cls)
    except AttributeError:
        return None
    return name if type(name) is str else None


def loaded(module: str, name: str) -> Any:
    """What a loaded module holds under a name, or None. Nothing is imported for this."""
    found = sys.modules.get(module)
    return _module_dict(found).get(name) if isinstance(found, ModuleType) else None


def named(module: str, name: str) -> Any:
    """In the stream: what a module holds under a name that pickle would not take for it."""
    return getattr(importlib.import_module(module), name)


def _is_own(value: Any) -> bool:
    """Whether it is a function of the worker's, whatever it calls itself."""
    function = value.__func__ if type(value) is MethodType else value
    if type(function) is not FunctionType:
        return False
    return str(function.__globals__.get("__name__")).partition(".")[0] == _OWN


class References:
    """The names that a fresh process will know, for one save."""

    def __init__(self) -> None:
        self._importable: dict[str, bool] = {}
        self._own: dict[int, tuple[str, str]] | None = None

    def is_importable(self, name: str) -> bool:
        """Whether an import in a fresh process gives what is loaded here under this name."""
        known = self._importable.get(name)
        if known is None:
            known = self._importable[name] = self._judge(name)
        return known

    def packages(self) -> set[str]:
        """The first names of all modules that were asked for so far and that a load will import."""
        return {name.partition(".")[0] for name, is_found in self._importable.items() if is_found}

    def _judge(self, name: str) -> bool:
        module = sys.modules.get(name)
        if not isinstance(module, ModuleType) or name in ("__main__", "__mp_main__"):
            return False
        content = _module_dict(module)
        if isinstance(content.get("__spec__"), ModuleSpec) or type(content.get("__file__")) is str:
            return True
        # Some packages make parts of themselves without an import; who makes a module by hand does not
        # put it into a package.
        parent = name.rpartition(".")[0]
        return bool(parent) and self.is_importable(parent)

    def find(self, obj: Any) -> tuple[str, str] | None:
        """Module and qualified name of a function or class, if they lead to it."""
        if isinstance(obj, type):
            module, name = module_of(obj), _type_name(obj)
        else:
            module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
        if type(module) is not str or type(name) is not str:
            return None
        return (module, name) if self.leads_to(module, name, obj) else None

    def place_of_own(self, obj: Any) -> tuple[str, str] | None:
        """Where the worker has put a function of its own for another: `builtins.input`, `os._exit`."""
        if not _is_own(obj):
            return None
        if self._own is None:
            self._own = {
                id(value): (name, key)
                for name, holder in list(sys.modules.items())
                if isinstance(holder, ModuleType) and name.partition(".")[0] not in (_OWN, "__main__")
                for key, value in list(_module_dict(holder).items())
                if _is_own(value)
            }
        return self._own.get(id(obj))

    def leads_to(self, module: str, name: str, obj: Any) -> bool:
        """Whether a fresh process finds this object under `module.name`."""
        if not self.is_importable(module):
            return False
        found: Any = sys.modules[module]
        for part in name.split("."):
            try:
                found = getattr(found, part)
            except Exception:
                return False
        return found is obj

    def holder_of(self, name: str, obj: Any) -> str | None:
        """A loaded module that holds an object which knows its name only, as a ufunc does."""
        for module, found in list(sys.modules.items()):
            holds = isinstance(found, ModuleType) and _module_dict(found).get(name) is obj
            if holds and self.is_importable(module):
                return module
        return None

    def module_of_globals(self, content: dict[str, Any]) -> str | None:
        """The importable module whose globals a dict is."""
        name = content.get("__name__")
        if type(name) is not str or not self.is_importable(name):
            return None
        return name if _module_dict(sys.modules[name]) is content else None

    def instances_held(self, cls: type) -> dict[int, tuple[str, str]]:
        """A class's instances that its own module holds: sentinels, singletons, registries; by identity."""
        module = module_of(cls)
        if module is None or not self.is_importable(module):
            return {}
        return {
            id(value): (module, name)
            for name, value in list(_module_dict(sys.modules[module]).items())
            if type(value) is cls
        }

    def leads_to_module(self, name: str, module: ModuleType) -> bool:
        """Whether an import gives this very module."""
        return sys.modules.get(name) is module and self.is_importable(name)
