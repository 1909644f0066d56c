"""The random numbers of a notebook begin with its seed: seeded once, and again only when asked for."""

from __future__ import annotations

import random
import sys
from typing import Any

from .hooks import when_there

_NUMPY = "numpy.random"


class Seeds:
    """Seeds `random` now, and numpy's global generator as soon as it is there."""

    def __init__(self) -> None:
        self.seed: int | None = None
        when_there(_NUMPY, self._seed_numpy)

    def set(self, seed: int) -> None:
        """From here on random numbers are those of this seed."""
        self.seed = seed
        random.seed(seed)
        if (module := sys.modules.get(_NUMPY)) is not None:
            self._seed_numpy(module)

    def resume(self, seed: int) -> None:
        """Those that are there go on as they do; one that comes later is this seed's."""
        self.seed = seed

    def _seed_numpy(self, module: Any) -> None:
        if self.seed is not None:
            module.seed(self.seed % 2**32)
