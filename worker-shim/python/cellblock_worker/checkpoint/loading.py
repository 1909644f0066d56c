"""Loads a saved namespace into a live one. What cannot be loaded loses itself only."""

from __future__ import annotations

import gc
import io
import pickle
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from . import ambient, interpreter, patches, paths, plain_dill, standard, tombstone
from .roots import Roots
from .salvage import Salvager
from .tombstone import Tombstone


@dataclass
class Loaded:
    """What a load has done."""

    # bound in the namespace
    names: list[str] = field(default_factory=list)
    # {path, type, reason} of each object that is not there: not saved, or not loaded
    losses: list[dict[str, str]] = field(default_factory=list)
    # of each name that is not bound for that, now or since an earlier load, the reason
    missing: dict[str, str] = field(default_factory=dict)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, roots: Roots, buffers: list[Any]) -> None:
        super().__init__(file, buffers=buffers)
        self._roots = roots

    def persistent_load(self, pid: Any) -> Any:
        return self._roots.named(pid)


def load(stream: Any, buffers: Iterable[Any], namespace: dict[str, Any], shell: Any = None) -> Loaded:
    """Binds the saved names in `namespace`.

    # Errors
    What a stream raises that is no stream, or whose end is missing.
    """
    buffers = list(buffers)
    roots = Roots(namespace, shell)
    collects = gc.isenabled()
    # Nothing that is made here is garbage; a collection would only look at all of it again and again.
    gc.disable()
    tombstone.made_by_load.clear()
    try:
        with warnings.catch_warnings():
            # Of packages that are imported for the first time: their words are not for this moment.
            warnings.simplefilter("ignore")
            root, places = _read(stream, roots, buffers)
        standard.place_iterators()
    finally:
        if collects:
            gc.enable()
    return _bind(root, places, namespace, shell)


def _read(stream: Any, roots: Roots, buffers: list[Any]) -> Any:
    if plain_dill.has_made(stream):
        return plain_dill.load(stream, roots)
    try:
        return _Unpickler(io.BytesIO(stream), roots, buffers).load()
    except Exception:
        tombstone.made_by_load.clear()
        return Salvager(io.BytesIO(stream), roots, buffers).load()


def _bind(root: Any, places: Any, namespace: dict[str, Any], shell: Any) -> Loaded:
    variables, extras = root
    loaded = Loaded()
    told = set()
    for one, path in places:
        if type(one) is Tombstone:
            tombstone.place(one, path)
            told.add(id(one))
            loaded.losses.append(tombstone.describe(one))
    new = {id(one): one for one in tombstone.made_by_load if id(one) not in told}
    tombstone.made_by_load.clear()
    roots = paths.named(variables, extras)
    for key, path in (paths.find(roots, set(new)) if new else {}).items():
        tombstone.place(new[key], path)
    loaded.losses.extend(map(tombstone.describe, new.values()))
    told_paths = {loss["path"] for loss in loaded.losses}
    for name, value in variables.items():
        if type(value) is not Tombstone:
            namespace[name] = value
            loaded.names.append(name)
            continue
        loss = {**tombstone.describe(value), "path": name}
        loaded.missing[name] = loss["reason"]
        # An object that is lost is told by its shortest path; another variable that held it is lost too.
        if name not in told_paths:
            loaded.losses.append(loss)
    if type(extras) is dict:
        _restore(extras, loaded, namespace, shell)
    return loaded


def _restore(extras: dict[str, Any], loaded: Loaded, namespace: dict[str, Any], shell: Any) -> None:
    """What is saved beside the variables. A part that is lost has its tombstone."""
    for restore, saved in ((interpreter.restore, "interpreter"), (ambient.restore, "ambient")):
        state = extras.get(saved)
        if type(state) is dict:
            loaded.losses.extend(restore(state, namespace, shell))
    if type(changes := extras.get("patches")) is list:
        loaded.losses.extend(patches.restore(changes))
    if type(earlier := extras.get("missing")) is dict:
        for name, reason in earlier.items():
            if name not in namespace:
                loaded.missing.setdefault(name, reason)
