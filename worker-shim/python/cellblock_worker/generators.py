"""Random generators that imports have made for themselves, and that no two workers may share.

Each is known by how it was made: one that was given a seed is the same in every interpreter, and stays as it
is; one that was not has drawn its state from chance in the zygote, and draws it again in each worker.
"""

from __future__ import annotations

import contextlib
import gc
import random
import sys
import weakref
from typing import Any

# What numpy draws when nobody names a seed has 128 bits.
_SEED_BITS = 64

_seed = random.Random.seed


class Generators:
    """Those that are made from `watch` to `collect`."""

    def __init__(self) -> None:
        self._drawn: weakref.WeakSet[random.Random] = weakref.WeakSet()
        self._numpy: list[Any] = []

    def watch(self) -> None:
        """Before the imports: notes who is seeded by chance."""
        drawn = self._drawn

        def seed(self: random.Random, *args: Any, **kwargs: Any) -> None:
            _seed(self, *args, **kwargs)
            is_drawn = (args[0] if args else kwargs.get("a")) is None
            (drawn.add if is_drawn else drawn.discard)(self)

        random.Random.seed = seed  # type: ignore[method-assign]

    def collect(self) -> None:
        """After them."""
        random.Random.seed = _seed  # type: ignore[method-assign]
        numpy = sys.modules.get("numpy.random")
        if numpy is not None:
            kinds = numpy.Generator, numpy.RandomState
            self._numpy = [
                found for found in gc.get_objects() if isinstance(found, kinds) and _is_drawn(found)
            ]

    def reseed(self) -> None:
        """In a worker."""
        for generator in list(self._drawn):
            # A subclass may have its own idea of seeds.
            with contextlib.suppress(Exception):
                generator.seed()
        for generator in self._numpy:
            bits = _bits(generator)
            bits.state = type(bits)().state


def _is_drawn(generator: Any) -> bool:
    entropy = getattr(getattr(_bits(generator), "seed_seq", None), "entropy", None)
    return isinstance(entropy, int) and entropy.bit_length() > _SEED_BITS


def _bits(generator: Any) -> Any:
    # Of a `RandomState` it is private.
    return getattr(generator, "bit_generator", None) or generator._bit_generator
