"""The user's names: which there are, what kind, how large; and what a run did to them.

Nothing here runs user code: no property, no `__len__`, no `__class__` of a user's object.
"""

from __future__ import annotations

import re
import sys
from types import GetSetDescriptorType, ModuleType
from typing import Any

# Bounds for one message; what is beyond them is said in a last entry whose name begins with `…`.
NAMES = 2_000
BYTES = 64 << 10
NAME_CHARACTERS = 200

# In, Out and their kin, which IPython binds for itself.
_INTERPRETER = frozenset(
    """In Out exit quit get_ipython open _ __ ___ _i _ii _iii _ih _oh _dh _exit_code
    __name__ __doc__ __package__ __loader__ __spec__ __builtin__ __builtins__ __annotations__
    __warningregistry__ __session__ __conditional_annotations__""".split()
)
_NUMBERED = re.compile(r"_i?[0-9]+")
# All of these that have been seen: thousands in a notebook that is used for long, looked at after each cell.
_skipped = set(_INTERPRETER)

Snapshot = dict[str, int]

# Names that a restore has left unbound, with the reason, until the user binds them again.
missing: dict[str, str] = {}

_type_name = type.__dict__["__qualname__"].__get__
_module_dict = vars(ModuleType)["__dict__"].__get__
_type_dict = vars(type)["__dict__"].__get__
_type_module = type.__dict__["__module__"].__get__
_SIZED = (int, float, complex, bool, str, bytes, bytearray, type(None))


def snapshot(namespace: dict[str, Any], hidden: dict[str, Any]) -> Snapshot:
    """Names and identities. Identities may be used again; nothing is kept alive for this."""
    absent = object()
    found = {
        name: id(value)
        for name, value in list(namespace.items())
        if type(name) is str and name not in _skipped and hidden.get(name, absent) is not value
    }
    for name in [name for name in missing if name in namespace]:
        del missing[name]
    numbered = [name for name in found if name[:1] == "_" and _NUMBERED.fullmatch(name)]
    _skipped.update(numbered)
    for name in numbered:
        del found[name]
    return found


def changes(before: Snapshot, after: Snapshot, namespace: dict[str, Any]) -> dict[str, Any]:
    """The wire form of `NameChanges`."""
    if before == after:
        return {"added": [], "changed": [], "removed": []}
    removed = sorted(name for name in before if name not in after)
    budget = _Budget()
    return {
        "added": _infos([name for name in after if name not in before], namespace, budget),
        "changed": _infos(
            [name for name, identity in after.items() if before.get(name, identity) != identity],
            namespace,
            budget,
        ),
        "removed": [shown for name in removed if (shown := budget.take(name)) is not None],
    }


class _Budget:
    def __init__(self) -> None:
        self.names = NAMES
        self.bytes = BYTES

    def take(self, name: str, kind: str = "") -> str | None:
        shown = name if len(name) <= NAME_CHARACTERS else f"{name[:NAME_CHARACTERS]}…"
        self.names -= 1
        self.bytes -= len(shown.encode("utf-8", "replace")) + len(kind) + 40
        return shown if self.names >= 0 and self.bytes >= 0 else None


def _infos(names: list[str], namespace: dict[str, Any], budget: _Budget) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for at, name in enumerate(names):
        try:
            value = namespace[name]
        except KeyError:  # a background task has just removed it
            continue
        kind = kind_of(value)
        shown = budget.take(name, kind)
        if shown is None:
            found.append({"name": f"… {len(names) - at} more names", "kind": "", "bytes": None})
            break
        found.append({"name": shown, "kind": kind, "bytes": bytes_of(value)})
    return found


def kind_of(value: Any) -> str:
    """The type as Python writes it; a package's own public name where it has one."""
    cls = type(value)
    try:
        module, name = _type_module(cls), _type_name(cls)
        if type(module) is not str or type(name) is not str:
            return "object"
    except Exception:
        return "object"
    if module == "builtins":
        return name[:NAME_CHARACTERS]
    if of_package(module.partition(".")[0], name) is cls:
        module = module.partition(".")[0]
    return f"{module}.{name}"[:NAME_CHARACTERS]


def of_package(package: str, name: str) -> Any:
    """What a loaded package holds under a name, or None. Neither a lazy module nor a user's own is asked."""
    module = sys.modules.get(package)
    return _module_dict(module).get(name) if isinstance(module, ModuleType) else None


def bytes_of(value: Any) -> int | None:
    """The size where it is cheap to know and no user code is asked."""
    cls = type(value)
    # `is`, not `in`: a user's metaclass may define `==`.
    if any(cls is sized for sized in _SIZED):
        return sys.getsizeof(value)
    try:
        if cls is of_package("numpy", "ndarray"):
            # numpy's own, in C: what stands in for numpy may have a property there that never ends.
            size = _type_dict(cls).get("nbytes")
            return int(size.__get__(value)) if isinstance(size, GetSetDescriptorType) else None
        if cls is of_package("pandas", "DataFrame") or cls is of_package("pandas", "Series"):
            return sum(int(block.values.nbytes) for block in value._mgr.blocks)
    except Exception:
        return None
    return None
