"""Saves a namespace as one graph in one stream: what is shared stays shared, what is a cycle stays one."""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
import sys
from collections.abc import Iterator
from typing import Any

from . import ambient, blobs, deep, limits, patches, paths
from .pickler import GraphPickler, is_plain
from .references import References
from .roots import Roots
from .subject import Saved, Subject, described, drop_faulty

# While pickling. Python 3.11 counts C's recursion by this; a level takes up to 2 KiB of a stack of 8 MiB.
RECURSION_LIMIT = 3_000


def save(subject: Subject) -> Saved:
    """Everything that the user's variables reach."""
    namespace = subject.namespace
    variables, extras, losses = subject.collect()
    writer = _Writer(subject)
    found, lost = patches.split(patches.find(namespace, writer.references))
    losses += lost
    if found:
        extras["patches"] = found
    with _calm():
        try:
            dumped = writer.dump((variables, extras))
        except Exception:
            losses += drop_faulty(variables, extras, lambda part: writer.dump((part, None)))
            dumped = writer.dump((variables, extras))
    left = {id(one.obj): one for one in dumped.pickler.left_out}
    told = {loss["path"] for loss in dumped.left_out}
    # An object is told once, by its shortest path; a variable that holds it too is not there either.
    losses += [
        {"path": name, "type": left[id(value)].kind, "reason": left[id(value)].reason}
        for name, value in variables.items()
        if id(value) in left and name not in told
    ]
    return Saved(
        dumped.file.getvalue(),
        [buffer.raw() for buffer in dumped.pickler.buffers],
        [described(name, value) for name, value in variables.items() if id(value) not in left],
        limits.bounded(losses + dumped.left_out),
        writer.references.packages(),
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
        large = blobs.find(variables)
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
        found = paths.find(paths.named(*root), {id(one.obj) for one in left}) if left else {}
        places = [(one.obj, found.get(id(one.obj), "")) for one in left]
        self.left_out = [
            {"path": path, "type": one.kind, "reason": one.reason}
            for one, (_, path) in zip(left, places, strict=True)
        ]
        self.pickler.dump((root, places))


class _Writer:
    """Of streams of one namespace."""

    def __init__(self, subject: Subject) -> None:
        self.references = References()
        self._roots = Roots(subject.namespace, subject.shell)
        self._refused = subject.refused

    def dump(self, root: tuple[dict[str, Any], Any]) -> _Dump:
        """The stream of a root."""
        try:
            dumped = self._begin(root)
            dumped.put(root)
        except RecursionError:
            dumped = self._dump_deep(root)
        dumped.finish(root)
        return dumped

    def _begin(self, root: tuple[dict[str, Any], Any]) -> _Dump:
        variables, extras = root
        dumped = _Dump(variables, self.references, self._roots)
        for cls, reason in self._refused:
            dumped.pickler.refuse(cls, reason)
        if extras and "ambient" in extras:
            dumped.put(ambient.Early(extras["ambient"]))
        return dumped

    def _dump_deep(self, root: tuple[dict[str, Any], Any]) -> _Dump:
        dumped = self._begin(root)
        containers, instances = deep.pieces(root, is_plain)
        dumped.pickler.dump_empty(instances)
        for piece in containers:
            dumped.put(piece)
        dumped.put(root)
        for instance in instances:
            state = object.__getstate__(instance)
            dumped.put(deep.Late(instance, state))
        return dumped
