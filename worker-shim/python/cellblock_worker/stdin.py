"""`input()` and `getpass()`: asked of the client through the shim, or refused clearly."""

from __future__ import annotations

import builtins
import getpass
import threading
from collections.abc import Callable
from typing import Any

from IPython.core.error import StdinNotImplementedError

from .publish import Outputs

PROMPT_CHARACTERS = 16_000


class Stdin:
    """Replaces `input` and `getpass.getpass`."""

    def __init__(self, outputs: Outputs, receive: Callable[[], str]) -> None:
        self.allowed = False
        # Where it is not allowed, `input()` finds the end of a file, as on /dev/null.
        self.at_end = False
        self._outputs = outputs
        # Blocks until the shim sends `Input`; interruptible.
        self._receive = receive

    def install(self) -> None:
        """For all user code, once."""
        # IPython's builtin_trap and others look it up by name.
        builtins.input = self._input
        getpass.getpass = self._getpass

    def _input(self, prompt: object = "", /) -> str:
        """Read a string from whoever runs this cell."""
        return self._ask("input", str(prompt), password=False)

    def _getpass(self, prompt: str = "Password: ", stream: Any = None, **_: Any) -> str:
        """Read a secret from whoever runs this cell; it is not shown."""
        return self._ask("getpass", str(prompt), password=True)

    def _ask(self, called: str, prompt: str, *, password: bool) -> str:
        if self.at_end and not self.allowed:
            raise EOFError(f"{called}() was called, but nobody can answer: this code runs without input")
        if not self.allowed or not self._outputs.is_open:
            raise StdinNotImplementedError(
                f"{called}() was called, but this execution does not allow input requests "
                "(run it with allow_stdin to be asked)."
            )
        if threading.current_thread() is not threading.main_thread():
            # The answer comes through the socket that the main thread reads.
            raise StdinNotImplementedError(f"{called}() works in the main thread only.")
        self._outputs.send({"input_request": {"prompt": prompt[:PROMPT_CHARACTERS], "password": password}})
        return self._receive()
