"""State of the process that is no variable but that a user's next cell relies on.

Each part is captured as plain values, which go through the same stream as the variables, and only if it
differs from the baseline or from a package's defaults. A part that fails is a loss of that part.
"""

from __future__ import annotations

import contextlib
import decimal
import importlib
import locale
import os
import random
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .references import loaded
from .tombstone import Tombstone


@dataclass(frozen=True)
class Baseline:
    """How a new worker looks, before a cell has run."""

    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    search_path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    filters: tuple[Any, ...] = field(default_factory=lambda: tuple(warnings.filters))
    recursion_limit: int = field(default_factory=sys.getrecursionlimit)
    locale: str = field(default_factory=lambda: locale.setlocale(locale.LC_ALL))


@dataclass(frozen=True)
class _Part:
    name: str
    # None where there is nothing to save.
    capture: Callable[[Baseline], Any]
    restore: Callable[[Any], None]


def capture(baseline: Baseline, losses: list[dict[str, str]]) -> dict[str, Any]:
    """What differs, by part."""
    state: dict[str, Any] = {}
    for part in _PARTS:
        try:
            value = part.capture(baseline)
        except Exception as error:
            losses.append(_loss(part.name, error))
        else:
            if value is not None:
                state[part.name] = value
    return state


class Early:
    """In the stream ahead of all else: what modules that are imported by a load may depend on."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = {part.name: state[part.name] for part in _EARLY if part.name in state}

    def __reduce__(self) -> Any:
        return set_early, (self._state,)


def set_early(state: dict[str, Any]) -> None:
    """Sets it; what cannot be is told by `restore`, which sets it again."""
    for part in _EARLY:
        if part.name in state:
            with contextlib.suppress(Exception):
                part.restore(state[part.name])


def restore(state: dict[str, Any], _namespace: dict[str, Any], _shell: Any) -> list[dict[str, str]]:
    """Sets it; gives the parts that could not be."""
    losses = []
    for part in _PARTS:
        if part.name not in state:
            continue
        try:
            part.restore(state[part.name])
        except Exception as error:
            losses.append(_loss(part.name, error))
    return losses


def _loss(name: str, error: Exception) -> dict[str, str]:
    return {"path": name, "type": "state of the process", "reason": f"{type(error).__name__}: {error}"[:300]}


def _environment(baseline: Baseline) -> Any:
    now = dict(os.environ)
    changed = {name: value for name, value in now.items() if baseline.environment.get(name) != value}
    removed = [name for name in baseline.environment if name not in now]
    return (changed, removed) if changed or removed else None


def _set_environment(state: Any) -> None:
    changed, removed = state
    os.environ.update(changed)
    for name in removed:
        os.environ.pop(name, None)
    time.tzset()


def _search_path(baseline: Baseline) -> Any:
    added = [(at, entry) for at, entry in enumerate(sys.path) if entry not in baseline.search_path]
    return added or None


def _set_search_path(added: Any) -> None:
    for at, entry in added:
        if entry not in sys.path:
            sys.path.insert(at, entry)


def _filters(baseline: Baseline) -> Any:
    return None if tuple(warnings.filters) == baseline.filters else list(warnings.filters)


def _set_filters(filters: Any) -> None:
    filters = [one for one in filters if not any(type(part) is Tombstone for part in one)]
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _numpy_random(_baseline: Baseline) -> Any:
    get_state = loaded("numpy.random", "get_state")
    return None if get_state is None else get_state(legacy=False)


def _set_numpy_random(state: Any) -> None:
    import numpy as np

    np.random.set_state(state)


def _torch_random(_baseline: Baseline) -> Any:
    # Of the processor; a device's needs the device.
    get_state = loaded("torch", "get_rng_state")
    return None if get_state is None else bytes(get_state().tolist())


def _set_torch_random(state: Any) -> None:
    torch: Any = importlib.import_module("torch")
    torch.set_rng_state(torch.tensor(list(state), dtype=torch.uint8))


def _numpy_options(_baseline: Baseline) -> Any:
    options, errors = loaded("numpy", "get_printoptions"), loaded("numpy", "geterr")
    return None if options is None else (options(), errors())


def _set_numpy_options(state: Any) -> None:
    import numpy as np

    options, errors = state
    np.set_printoptions(**{name: value for name, value in options.items() if name != "override_repr"})
    np.seterr(**errors)


def _matplotlib(_baseline: Baseline) -> Any:
    settings, defaults = loaded("matplotlib", "rcParams"), loaded("matplotlib", "rcParamsDefault")
    if settings is None or defaults is None:
        return None
    # Past its own look-up, which chooses a backend when asked for it.
    changed = {
        name: value
        for name, value in dict.items(settings)
        if not name.startswith("backend") and name in defaults and dict.get(defaults, name) != value
    }
    return changed or None


def _set_matplotlib(changed: Any) -> None:
    import matplotlib

    matplotlib.rcParams.update(changed)


def _pandas(_baseline: Baseline) -> Any:
    registered = loaded("pandas._config.config", "_registered_options")
    deprecated = loaded("pandas._config.config", "_deprecated_options")
    if registered is None:
        return None
    get = sys.modules["pandas"].get_option
    changed = {
        name: value
        for name, option in registered.items()
        if name not in (deprecated or ()) and (value := get(name)) != option.defval
    }
    return changed or None


def _set_pandas(changed: Any) -> None:
    import pandas as pd

    for name, value in changed.items():
        pd.set_option(name, value)


def _decimal(_baseline: Baseline) -> Any:
    context = decimal.getcontext()
    return None if repr(context) == repr(decimal.Context()) else context.copy()


def _set_locale(name: Any) -> None:
    locale.setlocale(locale.LC_ALL, name)


_EARLY = (
    _Part("environment", _environment, _set_environment),
    _Part("working directory", lambda _: str(Path.cwd()), os.chdir),
    _Part("search path", _search_path, _set_search_path),
)
_PARTS = (
    *_EARLY,
    _Part("random", lambda _: random.getstate(), random.setstate),
    _Part("numpy random", _numpy_random, _set_numpy_random),
    _Part("torch random", _torch_random, _set_torch_random),
    _Part("numpy options", _numpy_options, _set_numpy_options),
    _Part("matplotlib settings", _matplotlib, _set_matplotlib),
    _Part("pandas options", _pandas, _set_pandas),
    _Part("warning filters", _filters, _set_filters),
    _Part("decimal context", _decimal, decimal.setcontext),
    _Part(
        "recursion limit",
        lambda baseline: limit if (limit := sys.getrecursionlimit()) != baseline.recursion_limit else None,
        sys.setrecursionlimit,
    ),
    _Part(
        "locale",
        lambda baseline: now if (now := locale.setlocale(locale.LC_ALL)) != baseline.locale else None,
        _set_locale,
    ),
)
