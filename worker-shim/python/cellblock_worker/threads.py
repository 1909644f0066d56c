"""The thread pools of numeric libraries: one thread each while a zygote imports, the right number after.

A library with a pool starts it when it is loaded, and a process with threads cannot be forked. So it is told
that one thread is all there is, and told better in the worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable

# What tells them so.
_ALONE = {
    "OPENBLAS_NUM_THREADS": "1",
    # A thread that has nothing to do looks for work for so many (2^n) cycles before it sleeps. Of its own it
    # would do so for 30 ms, beside every worker that begins.
    "OPENBLAS_THREAD_TIMEOUT": "20",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    # Arrow's allocator has a thread that gives memory back; without it that happens as memory is used.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

# What sets the number, in libraries whose file has such a word in its name.
_SETTERS = {
    "openblas": (
        "OPENBLAS_NUM_THREADS",
        (
            "scipy_openblas_set_num_threads64_",
            "scipy_openblas_set_num_threads",
            "openblas_set_num_threads64_",
            "openblas_set_num_threads",
        ),
    ),
    "mkl_rt": ("MKL_NUM_THREADS", ("MKL_Set_Num_Threads",)),
    "gomp": ("OMP_NUM_THREADS", ("omp_set_num_threads",)),
    "omp": ("OMP_NUM_THREADS", ("omp_set_num_threads",)),
}


class Pools:
    """What is set to one thread, and what it is to be."""

    def __init__(self) -> None:
        self._before = {name: os.environ.get(name) for name in _ALONE}
        self._setters: list[tuple[str, Callable[[int], object]]] = []

    @classmethod
    def one_each(cls) -> Pools:
        """Says so to whatever is loaded from here on."""
        pools = cls()
        os.environ.update(_ALONE)
        return pools

    def find(self) -> None:
        """Looks for pools among the libraries that are loaded."""
        for path in _loaded():
            name = os.path.basename(path)  # noqa: PTH119
            found = [setters for word, setters in _SETTERS.items() if word in name]
            for variable, symbols in found[:1]:
                with contextlib.suppress(OSError):
                    library = ctypes.CDLL(path)
                    for symbol in symbols:
                        if hasattr(library, symbol):
                            self._setters.append((variable, getattr(library, symbol)))
                            break

    def restore_environment(self) -> None:
        """What the profile says of threads, for whatever is loaded from here on."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def set(self) -> None:
        """Gives the pools their threads. Not before the process may have some."""
        for variable, setter in self._setters:
            setter(self._wanted(variable))
        if "numexpr" in sys.modules:
            numexpr = sys.modules["numexpr"]
            numexpr.set_num_threads(min(self._wanted("NUMEXPR_NUM_THREADS"), numexpr.MAX_THREADS))

    def _wanted(self, variable: str) -> int:
        said = self._before[variable] or self._before["OMP_NUM_THREADS"] or ""
        return int(said) if said.isdecimal() and int(said) > 0 else len(os.sched_getaffinity(0))


def _loaded() -> list[str]:
    """The files of all loaded libraries, from the loader: a zygote has no /proc to look in."""

    class Info(ctypes.Structure):
        _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]

    paths: list[str] = []
    # int (*)(struct dl_phdr_info *, size_t, void *); the first two fields are all that is read.
    visitor_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)

    def visit(info: ctypes._Pointer[Info], _size: int, _data: object) -> int:
        name = info.contents.name
        if name:
            paths.append(os.fsdecode(name))
        return 0

    ctypes.CDLL(None).dl_iterate_phdr(visitor_type(visit), None)
    return paths
