"""The notebook's own `matplotlibrc`, where a zygote has imported matplotlib before there was a notebook."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_SETTINGS = Path("matplotlibrc")


def read_settings() -> None:
    """Takes the settings of the working folder, as importing matplotlib there would."""
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is None or not _SETTINGS.is_file():
        return
    # What is wrong in it is the notebook's affair: matplotlib has logged it.
    with contextlib.suppress(Exception):
        found = matplotlib.rc_params_from_file(_SETTINGS, use_default_template=False)
        # The backend is ours: figures go to the client.
        settings = {name: value for name, value in dict.items(found) if name != "backend"}
        for target in (matplotlib.rcParams, matplotlib.rcParamsOrig):
            dict.update(target, settings)
