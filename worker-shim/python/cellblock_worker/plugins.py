"""Plug-ins: what an Execution can ask to be done with its code beside running it.

A plug-in stands around the one engine, it is none itself: `begin` says which code is run, `end` looks at
what came of it. It is made when an Execution first names it, so that who needs none pays for none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .shell import Shell
    from .stdin import Stdin


class Refused(Exception):
    """The Execution ends as an error of this name, and nothing of it is shown as a traceback."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name
        self.text = text


class Plugin(Protocol):
    """One per worker."""

    def begin(self, arguments: dict[str, Any], code: str) -> str:
        """Before the code: the code to run. Raises `Refused` when it must not be run."""

    def end(self, error: BaseException | None) -> None:
        """After the code, whatever came of it; still within the run, so an interrupt may fall into it."""


def _execution_service(shell: Shell, stdin: Stdin) -> Plugin:
    from .execution_service import ExecutionService

    return ExecutionService(shell, stdin)


_MAKERS: dict[str, Callable[[Shell, Stdin], Plugin]] = {"execution_service": _execution_service}


class Plugins:
    """Those that have been named."""

    def __init__(self, shell: Shell, stdin: Stdin) -> None:
        self._shell = shell
        self._stdin = stdin
        self._made: dict[str, Plugin] = {}

    def named(self, name: str) -> Plugin:
        """The plug-in of that name. Raises `Refused` when there is none."""
        if name not in self._made:
            if name not in _MAKERS:
                raise Refused(
                    "UnknownPlugin", f"there is no plug-in `{name[:80]}`; there are: {', '.join(_MAKERS)}"
                )
            self._made[name] = _MAKERS[name](self._shell, self._stdin)
        return self._made[name]
