"""IPython's own names, and which names of a namespace are the user's.

`Out` and its kin are saved with everything else, so that a value in `Out` stays the variable's value; within
a bound, since whoever shows large frames does not think of them as kept.
"""

from __future__ import annotations

import re
from typing import Any

from cellblock_worker import names

from .tombstone import Tombstone

# The newest are kept.
MOST_RESULTS = 100
RESULT_BYTES = 1 << 20
MOST_INPUTS = 1_000

# Bound by the interpreter for itself and saved, if at all, by `capture`.
_OWN = frozenset(
    """In Out _ __ ___ _i _ii _iii _ih _oh _dh _exit_code __name__ __doc__ __package__ __loader__ __spec__
    __builtin__ __builtins__ __warningregistry__ __session__ __conditional_annotations__ __file__
    __cached__""".split()
)
_NUMBERED = re.compile(r"_i?[0-9]+")
_ABSENT = object()


def variables(namespace: dict[str, Any], hidden: dict[str, Any]) -> dict[str, Any]:
    """The user's variables: a helper name only when he has bound something else to it."""
    return {
        name: value
        for name, value in list(namespace.items())
        if type(name) is str
        and name not in _OWN
        and hidden.get(name, _ABSENT) is not value
        and not (name[:1] == "_" and _NUMBERED.fullmatch(name))
    }


def capture(namespace: dict[str, Any], shell: Any) -> dict[str, Any]:
    """What a user relies on: the last results, `In` and `Out`, the number of the next cell."""
    if shell is None:
        return {}
    results = {
        number: value
        for number, value in list(namespace.get("_oh", {}).items())[-MOST_RESULTS:]
        if (names.bytes_of(value) or 0) <= RESULT_BYTES
    }
    last = {
        name: namespace[name]
        for name in ("_", "__", "___")
        if name in namespace and (names.bytes_of(namespace[name]) or 0) <= RESULT_BYTES
    }
    inputs = list(namespace.get("_ih", []))
    return {
        "results": results,
        "last": last,
        # The list's places are the numbers of the cells.
        "inputs": [""] * max(0, len(inputs) - MOST_INPUTS) + inputs[-MOST_INPUTS:],
        "execution_count": shell.execution_count,
    }


def restore(state: dict[str, Any], namespace: dict[str, Any], shell: Any) -> list[dict[str, str]]:
    """Puts them back. A result that was lost is not among them."""
    if shell is None or not state:
        return []
    results = {number: value for number, value in state["results"].items() if type(value) is not Tombstone}
    namespace.setdefault("_oh", {}).update(results)
    namespace.update({f"_{number}": value for number, value in results.items()})
    for name, value in state["last"].items():
        if type(value) is not Tombstone:
            namespace[name] = value
            setattr(shell.displayhook, name, value)
    inputs = namespace.setdefault("_ih", [])
    inputs[:] = state["inputs"]
    namespace.update({f"_i{number}": text for number, text in enumerate(inputs) if number and text})
    shell.execution_count = state["execution_count"]
    return []
