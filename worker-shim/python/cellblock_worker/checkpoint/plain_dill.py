"""The other serialiser: plain dill, one pickle of all variables that it can take.

Which of the two has made a stream is said by its first bytes, so that each checkpoint is loaded by its own.
"""

from __future__ import annotations

import importlib
import io
import pickle
import sys
import warnings
from typing import Any

from . import ambient, limits, patches, tombstone
from .references import References
from .roots import Roots
from .salvage import Salvager
from .subject import Saved, Subject, described, drop_faulty

_PROTOCOL = pickle.PROTO + b"\x05"
_NAME = b"cellblock: plain dill"
# A pickle still: a text that is taken from the stack again, and is in no memo.
_MARK = pickle.SHORT_BINUNICODE + bytes([len(_NAME)]) + _NAME + pickle.POP
_FRAME_HEADER_BYTES = 9


def has_made(stream: bytes) -> bool:
    """Whether a stream is of this serialiser."""
    # A store may frame a pickle in another way than it was.
    start = len(_PROTOCOL)
    if stream[start : start + 1] == pickle.FRAME:
        start += _FRAME_HEADER_BYTES
    return stream[start : start + len(_MARK)] == _MARK


def save(subject: Subject) -> Saved:
    """What dill can take of the user's variables. A name of which it cannot take a part is left out.

    # Errors
    `ImportError`: there is no dill.
    """
    variables, extras, losses = subject.collect()
    for module, name, value in patches.find(subject.namespace, References()):
        loss = described(f"{module}.{name}", value)
        losses.append({"path": loss["name"], "type": loss["type"], "reason": "plain dill does not save it"})
    try:
        stream = _dumped(variables, extras)
    except Exception:
        losses += drop_faulty(variables, extras, lambda part: _dumped(part, {}))
        stream = _dumped(variables, extras)
    return Saved(
        stream,
        names=[described(name, value) for name, value in variables.items()],
        left_out=limits.bounded(losses),
        packages={name for name in list(sys.modules) if "." not in name},
    )


def _dumped(variables: dict[str, Any], extras: dict[str, Any]) -> bytes:
    dill: Any = importlib.import_module("dill")
    early = ambient.Early(extras.get("ambient", {}))
    with warnings.catch_warnings():
        # Of what it cannot take; an exception follows, or the load tells it.
        warnings.simplefilter("ignore")
        text: bytes = dill.dumps((early, variables, extras), protocol=5, byref=False, recurse=False)
    assert text.startswith(_PROTOCOL)
    return _PROTOCOL + _MARK + text[len(_PROTOCOL) :]


def load(stream: bytes, roots: Roots) -> tuple[tuple[Any, Any], list[Any]]:
    """As the other serialiser's: the root, and no tombstones that were saved.

    # Errors
    `ImportError`: there is no dill.
    """
    dill: Any = importlib.import_module("dill")
    unpickler = dill.Unpickler(io.BytesIO(stream))
    if roots.named("main") is not None:
        unpickler._main = roots.named("main")
    try:
        _, variables, extras = unpickler.load()
    except Exception:
        tombstone.made_by_load.clear()
        _, variables, extras = _DillSalvager(io.BytesIO(stream), roots, []).load()
    return (variables, extras), []


class _DillSalvager(Salvager):
    def find_class(self, module: str, name: str) -> Any:
        # How dill names the variables themselves, which are the globals of the user's functions.
        if (module, name) == ("__builtin__", "__main__"):
            return self._roots.named("namespace")
        return super().find_class(module, name)
