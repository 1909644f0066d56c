"""Saves a namespace as one graph in one stream: what is shared stays shared, what is a cycle stays one."""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cellblock_worker import names as name_list

from . import ambient, blobs, deep, interpreter, limits, paths
from .pickler import OUT_OF_BAND_BYTES, GraphPickler, is_plain
from .references import References
from .roots import Roots

# While pickling. Python 3.11 counts C's recursion by this; a level takes up to 2 KiB of a stack of 8 MiB.
RECURSION_LIMIT = 3_000


@dataclass
class Saved:
    """A namespace as bytes."""

    stream: bytes
    # Contiguous, in the order in which a load takes them.
    buffers: list[memoryview] = field(default_factory=list)
    # {name, type, bytes} of each variable saved
    names: list[dict[str, Any]] = field(default_factory=list)
    # {path, type, reason} of each object that was not
    left_out: list[dict[str, str]] = field(default_factory=list)


def save(
    namespace: dict[str, Any],
    hidden: dict[str, Any],
    shell: Any = None,
    baseline: ambient.Baseline | None = None,
) -> Saved:
    """Everything that the user's variables reach.

    `hidden` are the helper names with what they hold unless the user rebinds them. With a `baseline`, what
    else of the process's state has changed since is saved too.
    """
    variables, refused = limits.split(interpreter.variables(namespace, hidden))
    extras: dict[str, Any] = {"interpreter": interpreter.capture(namespace, shell)}
    losses = [
        {"path": name, "type": name_list.kind_of(namespace[name]), "reason": reason}
        for name, reason in refused.items()
    ]
    if baseline is not None:
        extras["ambient"] = ambient.capture(baseline, losses)
    writer = _Writer(namespace, shell)
    with _calm():
        try:
            dumped = writer.dump((variables, extras))
        except Exception:
            for name, reason in writer.faulty(variables):
                kind = name_list.kind_of(variables.pop(name))
                losses.append({"path": name, "type": kind, "reason": reason})
            for name, reason in writer.faulty(extras):
                del extras[name]
                losses.append({"path": name, "type": "state", "reason": reason})
            dumped = writer.dump((variables, extras))
    left = {id(one.obj) for one in dumped.pickler.left_out}
    return Saved(
        dumped.file.getvalue(),
        [buffer.raw() for buffer in dumped.pickler.buffers],
        [
            {"name": name, "type": name_list.kind_of(value), "bytes": name_list.bytes_of(value)}
            for name, value in variables.items()
            if id(value) not in left
        ],
        limits.bounded(losses + dumped.left_out),
    )


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """No collections, and a recursion that fits the stack."""
    limit, collects = sys.getrecursionlimit(), gc.isenabled()
    gc.disable()
    try:
        with contextlib.suppress(RecursionError):  # we are deeper already
            sys.setrecursionlimit(RECURSION_LIMIT)
        yield
    finally:
        sys.setrecursionlimit(limit)
        if collects:
            gc.enable()


class _Dump:
    """One stream while it is written."""

    def __init__(self, variables: dict[str, Any], references: References, roots: Roots) -> None:
        large = blobs.find(variables, OUT_OF_BAND_BYTES)
        self.file = io.BytesIO()
        self.file.write(roots.prefix() + blobs.prefix(large))
        self.pickler = GraphPickler(self.file, references, roots, large)
        self.left_out: list[dict[str, str]] = []

    def put(self, obj: Any) -> None:
        """Into the memo: the stream goes on behind it."""
        self.pickler.dump(obj)
        self.file.seek(-1, io.SEEK_END)
        self.file.write(pickle.POP)

    def finish(self, root: tuple[dict[str, Any], Any]) -> None:
        """The root with its tombstones and where they stand: a second walk, if there are any."""
        left = self.pickler.left_out
        found = paths.find(root[0], {id(one.obj) for one in left}) if left else {}
        places = [(one.obj, found.get(id(one.obj), "")) for one in left]
        self.left_out = [
            {"path": path, "type": one.kind, "reason": one.reason}
            for one, (_, path) in zip(left, places, strict=True)
        ]
        self.pickler.dump((root, places))


class _Writer:
    """Of streams of one namespace."""

    def __init__(self, namespace: dict[str, Any], shell: Any) -> None:
        self._references = References()
        self._roots = Roots(namespace, shell)

    def dump(self, root: tuple[dict[str, Any], Any]) -> _Dump:
        """The stream of a root."""
        try:
            dumped = _Dump(root[0], self._references, self._roots)
            dumped.put(root)
        except RecursionError:
            dumped = self._dump_deep(root)
        dumped.finish(root)
        return dumped

    def _dump_deep(self, root: tuple[dict[str, Any], Any]) -> _Dump:
        dumped = _Dump(root[0], self._references, self._roots)
        containers, instances = deep.pieces(root, is_plain)
        dumped.pickler.dump_empty(instances)
        for piece in containers:
            dumped.put(piece)
        dumped.put(root)
        for instance in instances:
            state = object.__getstate__(instance)
            dumped.put(deep.Late(instance, state))
        return dumped

    def faulty(self, variables: dict[str, Any]) -> list[tuple[str, str]]:
        """The names without which the rest can be saved, each with the reason; by halves."""
        try:
            self.dump((variables, None))
        except Exception as error:
            if len(variables) == 1:
                return [(next(iter(variables)), _reason(error))]
            both = list(variables.items())
            middle = len(both) // 2
            return self.faulty(dict(both[:middle])) + self.faulty(dict(both[middle:]))
        return []


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return f"{type(error).__name__}: {error}"[:300]
