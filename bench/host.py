"""The machine that figures belong to, and how busy it was when they were taken."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = ("ipykernel", "ipython", "jupyter_client", "numpy", "pandas")
"""The peer's, and what its cells use."""


def facts() -> dict[str, Any]:
    """For a program."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": _commit(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "load_average": os.getloadavg(),
    }


def _commit() -> str | None:
    """Of the tree that this lies in, with a `+` where it has been changed since; None where nobody knows."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=7", "--dirty=+"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def host() -> str:
    """For people."""
    found = facts()
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    load = f"load {found['load_average'][0]:.1f}"
    return f"{found['cpus']} CPUs, {load}, Linux {found['kernel']}, Python {found['python']}, {packages}"
