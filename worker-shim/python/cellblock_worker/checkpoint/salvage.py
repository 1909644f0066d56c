"""The unpickler for a stream of which something cannot be loaded: each failure becomes a tombstone there.

It is pickle's own in Python, fifty times slower than the one in C, and used only when that has failed.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, ClassVar

from . import tombstone
from .roots import Roots
from .tombstone import NotRestored, Tombstone

# Not in pickle's public face, but the only unpickler that can be stopped at each step.
_Python: Any = pickle._Unpickler


class Salvager(_Python):  # type: ignore[misc]
    """Loads what can be loaded."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Python.dispatch)

    def __init__(self, file: Any, roots: Roots, buffers: list[Any]) -> None:
        super().__init__(file, buffers=buffers)
        self._roots = roots

    def persistent_load(self, pid: Any) -> Any:
        return self._roots.named(pid)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except Exception as error:
            return _lose(f"{module}.{name}", error)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        try:
            self.stack[-1] = function(*arguments)
        except Exception as error:
            # A state setter's first argument lies below it, and has now only a part of its state.
            if len(arguments) == 2 and len(self.stack) > 1 and self.stack[-2] is arguments[0]:
                self._replace(arguments[0], error)
                self.stack[-1] = None
            else:
                self.stack[-1] = _lose(_kind(function, arguments), error, function, *arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        cls = self.stack[-1]
        try:
            self.stack[-1] = cls.__new__(cls, *arguments)
        except Exception as error:
            self.stack[-1] = _lose(_kind(cls), error, cls, *arguments)

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        arguments = self.stack.pop()
        cls = self.stack[-1]
        try:
            self.stack[-1] = cls.__new__(cls, *arguments, **keywords)
        except Exception as error:
            self.stack[-1] = _lose(_kind(cls), error, cls, *arguments)

    def _filling(self, fill: Callable[[Salvager], None], target: Callable[[Salvager], Any]) -> None:
        built = target(self)
        try:
            fill(self)
        except Exception as error:
            self._replace(built, error)

    def load_build(self) -> None:
        self._filling(_Python.load_build, lambda self: self.stack[-2])

    def load_appends(self) -> None:
        self._filling(_Python.load_appends, lambda self: self.metastack[-1][-1])

    def load_append(self) -> None:
        self._filling(_Python.load_append, lambda self: self.stack[-2])

    def load_setitems(self) -> None:
        self._filling(_Python.load_setitems, lambda self: self.metastack[-1][-1])

    def load_setitem(self) -> None:
        self._filling(_Python.load_setitem, lambda self: self.stack[-3])

    def load_additems(self) -> None:
        self._filling(_Python.load_additems, lambda self: self.metastack[-1][-1])

    def _replace(self, built: Any, error: Exception) -> None:
        """Whoever comes to a half-built object from now on finds a tombstone."""
        if type(built) is Tombstone:
            return
        lost = _lose(_kind(type(built)), error)
        for place, obj in self.memo.items():
            if obj is built:
                self.memo[place] = lost
        for at, obj in enumerate(self.stack):
            if obj is built:
                self.stack[at] = lost

    for _code, _load in (
        (pickle.REDUCE, load_reduce),
        (pickle.NEWOBJ, load_newobj),
        (pickle.NEWOBJ_EX, load_newobj_ex),
        (pickle.BUILD, load_build),
        (pickle.APPENDS, load_appends),
        (pickle.APPEND, load_append),
        (pickle.SETITEMS, load_setitems),
        (pickle.SETITEM, load_setitem),
        (pickle.ADDITEMS, load_additems),
    ):
        dispatch[_code[0]] = _load


def _lose(kind: str, error: Exception, *parts: Any) -> Tombstone:
    # What fails because a part of it is lost already has that part's reason.
    missing = next((part for part in parts if type(part) is Tombstone), None)
    if missing is not None:
        reason = f"needs {tombstone.message(missing)}"
    elif isinstance(error, NotRestored):
        reason = str(error)
    else:
        reason = f"{type(error).__name__}: {error}"
    return tombstone.lose(kind, reason.partition("\n")[0][:300])


def _kind(made: Any, arguments: tuple[Any, ...] = ()) -> str:
    """The type that was to be made: the class itself, or the class that a function was given."""
    for one in (made, *arguments[:1]):
        if isinstance(one, type):
            return f"{one.__module__}.{one.__qualname__}"
    return str(getattr(made, "__qualname__", "object")) if type(made) is not Tombstone else "object"
