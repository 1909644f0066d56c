"""The versions of what a stream needs: noted with a checkpoint, compared before it is loaded."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import platform
import sys
import warnings
from collections.abc import Iterable, Mapping
from types import ModuleType

# What is longer no store takes.
MOST_CHARACTERS = 100


def of_packages(names: Iterable[str]) -> dict[str, str]:
    """Of those that say it. The standard library's is Python's."""
    found = {}
    for name in names:
        version = None if name in sys.stdlib_module_names else _said_by_module(name)
        if version is not None:
            found[name] = version[:MOST_CHARACTERS]
    return found


def differences(python: str, packages: Mapping[str, str]) -> list[str]:
    """What is not here as it was there, one line each; of Python the first two numbers count."""
    here = platform.python_version()
    found = [f"Python {python}, now {here}"] if _minor(python) != _minor(here) else []
    for name, version in sorted(packages.items()):
        now = _version_here(name, version)
        if now is not None and now[:MOST_CHARACTERS] != version:
            found.append(f"{name} {version}, now {now}"[: 3 * MOST_CHARACTERS])
    return found


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _said_by_module(name: str) -> str | None:
    # Not through `getattr`: a module may have a hook that imports.
    module = sys.modules.get(name)
    version = vars(module).get("__version__") if isinstance(module, ModuleType) else None
    return version if type(version) is str else None


def _version_here(name: str, expected: str) -> str | None:
    """None where it cannot be known: a package that is not there is named when the load needs it."""
    said = _said_by_module(name)
    if said is not None:
        return said
    installed = _installed(name)
    if installed is None or installed == expected:
        return installed
    # Some say another number of themselves than their installer does. The load imports it anyway.
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module(name)
    return _said_by_module(name) or installed


def _installed(name: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    for distribution in importlib.metadata.packages_distributions().get(name, ()):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return None
