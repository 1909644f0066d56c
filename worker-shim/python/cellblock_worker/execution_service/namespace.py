"""The names that every notebook of the service begins with, and how a notebook gets back to them.

A name that the user binds anew is the user's: only clearing the namespace undoes that.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import importlib
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import lazy
from .helpers import safe_float, safe_int, safe_timedelta, to_python_type
from .lazy import LazyModule
from .packages import class_name

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell

SEED = "_notebook_execution_seed"

_module_of_class = type.__dict__["__module__"].__get__


class InitialNames:
    """Binds them. They are hidden from reports of names until somebody binds them anew."""

    def __init__(self, shell: Shell, display: Callable[..., Any]) -> None:
        self._shell = shell
        self._display = display

    def bind(self) -> None:
        """Binds those that are free."""
        for name, value in self._make().items():
            if name not in self._shell.user_ns:
                self.set_hidden(name, value)

    def set_hidden(self, name: str, value: Any) -> None:
        """Binds a name that is none of the user's doing."""
        self._shell.user_ns[name] = self._shell.user_ns_hidden[name] = value

    def load_mentioned(self, code: str) -> None:
        """Puts the modules themselves where a cell mentions the names that stand for them."""
        for name in lazy.mentioned(code):
            value = self._shell.user_ns.get(name)
            if isinstance(value, LazyModule):
                # What is missing or broken is told where it is used.
                with contextlib.suppress(Exception):
                    lazy.load(value)

    def clear(self, *, keep_imports: bool) -> None:
        """Removes all that is the user's and binds the initial names anew."""
        shell = self._shell
        kept = {
            name: value
            for name, value in list(shell.user_ns.items())
            if keep_imports and shell.user_ns_hidden.get(name) is not value and is_import(value)
        }
        shell.reset(new_session=False)
        shell.user_ns.update(kept)
        for name, value in self._make().items():
            self.set_hidden(name, value)
        gc.collect()

    def _make(self) -> dict[str, Any]:
        return {
            **{alias: LazyModule(alias, self._rebind) for alias in lazy.MODULES},
            "timedelta": datetime.timedelta,
            "datetime": datetime.datetime,
            "date": datetime.date,
            "safe_timedelta": safe_timedelta,
            "to_python_type": to_python_type,
            "safe_int": safe_int,
            "safe_float": safe_float,
            "display": self._display,
            "_lazy_import": self._lazy_import,
        }

    def _rebind(self, alias: str, stand_in: LazyModule, module: types.ModuleType) -> None:
        if self._shell.user_ns.get(alias) is stand_in:
            self.set_hidden(alias, module)

    def _lazy_import(self, module_path: str, alias: str) -> types.ModuleType:
        """Import a module under a name, unless the name holds something already."""
        module = importlib.import_module(module_path)
        value = self._shell.user_ns.get(alias)
        if value is None or isinstance(value, LazyModule):
            self._shell.user_ns[alias] = module
        return module


def is_import(value: Any) -> bool:
    """Whether it is a module, or a function or class that a module has under its own name."""
    cls = type(value)
    if issubclass(cls, types.ModuleType):
        return not issubclass(cls, LazyModule)
    try:
        if cls is types.FunctionType or cls is types.BuiltinFunctionType:
            module, name = value.__module__, value.__name__
        elif issubclass(cls, type):
            module, name = _module_of_class(value), class_name(value)
        else:
            return False
        return module != "__main__" and vars(sys.modules[module]).get(name) is value
    except Exception:
        return False
