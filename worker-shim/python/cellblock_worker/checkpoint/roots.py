"""The live objects that a namespace reaches but does not own: a stream names them, a load gives its own.

They are put into the memo of pickler and unpickler ahead, at the same places. So the pickler, which looks
into its memo for each object anyway, needs no `persistent_id`, which costs a call for each object.
"""

from __future__ import annotations

import builtins
import os
import pickle
import sys
from typing import Any

# Those that this process began with: one that the user puts in their place is a value like any other.
_STREAMS = {"sys.stdin": sys.stdin, "sys.stdout": sys.stdout, "sys.stderr": sys.stderr}


class Roots:
    """Of this process. A root that it has not is None, and a stream that needs it is told so."""

    def __init__(self, namespace: dict[str, Any], shell: Any = None) -> None:
        modules = (getattr(shell, "user_module", None), sys.modules.get("__main__"))
        self._live: dict[str, Any] = {
            "namespace": namespace,
            "main": next((one for one in modules if one is not None and vars(one) is namespace), None),
            "shell": shell,
            "builtins": vars(builtins),
            "modules": sys.modules,
            "environ": os.environ,
            **_STREAMS,
        }

    def memo(self) -> dict[int, tuple[int, Any]]:
        """For the pickler: what each root is, by identity."""
        memo: dict[int, tuple[int, Any]] = {}
        for at, live in enumerate(self._live.values()):
            if live is not None:
                memo.setdefault(id(live), (at, live))
        # The pickler counts on from the size of the memo: a place must be held for each that is not here.
        taken = {at for at, _ in memo.values()}
        for at in range(len(self._live)):
            if at not in taken:
                nobody = object()
                memo[id(nobody)] = (at, nobody)
        return memo

    def prefix(self) -> bytes:
        """For the stream: asks for each root, and leaves it in the unpickler's memo alone."""
        ask = b"".join(
            pickle.SHORT_BINUNICODE
            + bytes([len(name)])
            + name.encode()
            + pickle.BINPERSID
            + pickle.MEMOIZE
            + pickle.POP
            for name in self._live
        )
        return pickle.PROTO + b"\x05" + ask

    def named(self, name: str) -> Any:
        """What stands for a root here. Any name of another version's is unknown, and None."""
        return self._live.get(name)
