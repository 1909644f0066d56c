"""Says of a package that is missing how it comes into the environment."""

from __future__ import annotations

import importlib.util

from cellblock_worker import profile


def explain(error: ModuleNotFoundError) -> None:
    """Adds the hint to the error's text, once, and only when the package is really missing."""
    package = (error.name or "").partition(".")[0]
    if not package or "HINT:" in str(error) or _is_installed(package):
        return
    error.msg = f"{error.msg}\n\nHINT: Missing Python package '{package}'. {profile.cure(package)}"


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
