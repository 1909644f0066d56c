"""What the worker knows of the profile it runs under: enough to say how a package is added."""

from __future__ import annotations

import os
import sys

NAME = os.environ.pop("CELLBLOCK_PROFILE", "default")


def cure(package: str) -> str:
    """How an operator adds a package to the environment of this profile."""
    return (
        f"{package} is not in the environment of profile `{NAME}`; "
        f"an operator adds it with `{sys.executable} -m pip install {package}`"
    )
