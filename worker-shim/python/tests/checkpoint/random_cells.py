"""Random cells: each is written for the variables that there are, and changes some of them."""

from __future__ import annotations

import collections
import functools
import random
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

IMPORTS = "import collections, functools, random\nimport numpy as np, pandas as pd\nserials = []"
NAMES = [f"v{number}" for number in range(9)]
# Looked at for what an expression may reach.
_DEPTH = 3
_KEYS = ("a", "b", 1, 2.5, (1, "x"))

# The section of `random_cells.forms` for each kind of object.
_KINDS: dict[type, str] = {
    list: "list",
    dict: "dict",
    set: "set",
    collections.deque: "deque",
    bytearray: "bytearray",
    np.ndarray: "array",
    pd.DataFrame: "frame",
    pd.Series: "series",
    types.FunctionType: "function",
    type: "class",
    random.Random: "random",
    type(iter([])): "iterator",
    functools.partial: "partial",
    types.BuiltinMethodType: "builtin",
    types.MethodType: "method",
}


def _read_forms() -> dict[str, list[str]]:
    _, *sections = Path(__file__).with_suffix(".forms").read_text().split("=== ")
    forms = {}
    for section in sections:
        name, *lines = section.strip().splitlines()
        forms[name] = [line.replace("\\n", "\n") for line in lines]
    return forms


# What a cell may do, by section. `{x}` is an expression for the object, `{any}` for another, `{kind}` for
# another of its kind, `{new}` a name, `{n}` a small number, `{key}` a key, `{size}` a length.
_FORMS = _read_forms()


class Cells:
    """Of one program."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def first(self) -> str:
        """Imports and definitions."""
        return "\n".join([IMPORTS, *_FORMS["definition"]])

    def next(self, namespace: dict[str, Any]) -> str:
        """A cell of a statement or a few, some of which fail midway."""
        count = self._random.choice([1, 1, 2, 3])
        statements = [self._statement(namespace) for _ in range(count)]
        if self._random.random() < 0.08:
            statements.insert(self._random.randrange(len(statements) + 1), "1 / 0")
        return "\n".join(statements)

    def _statement(self, namespace: dict[str, Any]) -> str:
        variables = [name for name in NAMES if name in namespace]
        choice = self._random.random()
        reachable = self._reachable(namespace)
        if choice < 0.22 or not reachable:
            return self._filled(self._random.choice(_FORMS["new"]), namespace)
        if choice < 0.27:
            return f"del {self._random.choice(variables)}"
        if choice < 0.29:
            return self._random.choice(_FORMS["definition"])
        if choice < 0.37:
            return self._filled("{new} = {any}", namespace)
        expression, obj = self._random.choice(reachable)
        return self._filled(self._random.choice(_changes(obj)), namespace, expression, obj)

    def _filled(self, form: str, namespace: dict[str, Any], x: str = "", obj: Any = None) -> str:
        reachable = self._reachable(namespace)
        kind = [expression for expression, other in reachable if type(other) is type(obj)]
        others = [expression for expression, _ in reachable] + ["None", "'word'"]
        choose = self._random.choice
        while "{any}" in form:
            form = form.replace("{any}", choose(others), 1)
        return (
            form.replace("{x}", x)
            .replace("{kind}", choose(kind or [x]))
            .replace("{new}", choose(NAMES))
            .replace("{n}", str(choose([0, 1, 2, 3])))
            .replace("{key}", repr(choose(_KEYS)))
            # Some out of the stream, most in it.
            .replace("{size}", str(choose([3, 5, 5, 8, 40, 5_000])))
            .replace("{{", "{")
            .replace("}}", "}")
        )

    def _reachable(self, namespace: dict[str, Any]) -> list[tuple[str, Any]]:
        """Expressions for what the variables hold, and what that holds."""
        found = [(name, namespace[name]) for name in NAMES if name in namespace]
        at = 0
        for _ in range(_DEPTH - 1):
            end = len(found)
            for expression, obj in found[at:end]:
                found.extend((f"{expression}{step}", held) for step, held in _held(obj))
            at = end
        return [one for one in found if _changes(one[1])]


def _held(obj: Any) -> list[tuple[str, Any]]:
    if type(obj) in (list, tuple):
        return [(f"[{at}]", held) for at, held in enumerate(obj[:4])]
    if type(obj) is dict:
        return [(f"[{key!r}]", held) for key, held in list(obj.items())[:4] if type(key) is str]
    if type(obj).__module__ == "__main__":
        return [(f".{name}", held) for name, held in vars(obj).items()]
    return []


def _changes(obj: Any) -> list[str]:
    cls = type(obj)
    if cls is type and obj.__module__ != "__main__":
        return []
    return _FORMS.get("instance" if cls.__module__ == "__main__" else _KINDS.get(cls, ""), [])
