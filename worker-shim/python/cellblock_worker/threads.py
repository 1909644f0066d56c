"""The thread pools of numeric libraries: one thread each while a zygote imports, the right number after.

A library with a pool starts it when it is loaded, and a process with threads cannot be forked. So it is told
that one thread is all there is, and once everything is loaded it is told better, in a way that starts none
before there is work for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
import warnings
from collections.abc import Callable

# What tells them so.
_ALONE = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    # Arrow's allocator has a thread that gives memory back; without it that happens as memory is used.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

# What sets the number, in libraries whose file has such a word in its name; the first word counts.
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
    "libomp": ("OMP_NUM_THREADS", ("omp_set_num_threads",)),
    "libiomp": ("OMP_NUM_THREADS", ("omp_set_num_threads",)),
}

# More numexpr does not take by itself.
_NUMEXPR_THREADS = 8

_CLONE_THREAD = 0x10000


def is_alone() -> bool:
    """Whether this process has one thread. There may be no /proc to count them in."""
    # unshare(2) refuses this to a process that has several, and does nothing in one that has not.
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.unshare(_CLONE_THREAD) == 0 or ctypes.get_errno() != errno.EINVAL


class Pools:
    """What is set to one thread, and what it is to be."""

    def __init__(self) -> None:
        self._before = {name: os.environ.get(name) for name in _ALONE}
        # Those that start threads at once: not before the process may have some.
        self._late: list[Callable[[], object]] = []

    @classmethod
    def one_each(cls) -> Pools:
        """Says so to whatever is loaded from here on."""
        pools = cls()
        os.environ.update(_ALONE)
        return pools

    def restore(self) -> None:
        """What the profile says of threads, for all that is loaded now or later."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        early = self._setters()
        if early and _can_shed(early):
            _start_and_shed(early)
        else:
            self._late = early
        if "numexpr" in sys.modules:
            numexpr = sys.modules["numexpr"]
            wanted = self._wanted("NUMEXPR_NUM_THREADS", _NUMEXPR_THREADS)
            self._late.append(lambda: numexpr.set_num_threads(min(wanted, numexpr.MAX_THREADS)))

    def set(self) -> None:
        """In a worker that may have threads: the pools that could not be set before."""
        for setter in self._late:
            setter()

    def _setters(self) -> list[Callable[[], object]]:
        """One for each pool among the libraries that are loaded."""
        found: list[Callable[[], object]] = []
        for path in _loaded():
            name = os.path.basename(path)  # noqa: PTH119
            known = [setters for word, setters in _SETTERS.items() if word in name]
            for variable, symbols in known[:1]:
                with contextlib.suppress(OSError):
                    library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
                    for symbol in filter(lambda symbol: hasattr(library, symbol), symbols):
                        found.append(_call(getattr(library, symbol), self._wanted(variable)))
                        break
        # By its base module: pyarrow itself may be half imported, or somebody's lazy stand-in.
        if "pyarrow.lib" in sys.modules:
            found.append(_call(sys.modules["pyarrow.lib"].set_cpu_count, self._wanted("OMP_NUM_THREADS")))
        return found

    def _wanted(self, variable: str, most: int | None = None) -> int:
        # OpenMP's has a number for each level of nesting.
        said = (self._before[variable] or self._before["OMP_NUM_THREADS"] or "").partition(",")[0].strip()
        if said.isdecimal() and int(said) > 0:
            return int(said)
        processors = len(os.sched_getaffinity(0))
        return processors if most is None else min(processors, most)


def _call(setter: Callable[[int], object], number: int) -> Callable[[], object]:
    return lambda: setter(number)


def _start_and_shed(setters: list[Callable[[], object]]) -> None:
    """Sets pools, and forks: OpenBLAS ends its threads then, and starts them again when there is work."""
    for setter in setters:
        setter()
    with warnings.catch_warnings():
        # Of the very threads that this gets rid of.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
        if child == 0:
            os._exit(0)
    os.waitpid(child, 0)


def _can_shed(setters: list[Callable[[], object]]) -> bool:
    """Whether that leaves one thread; tried in a child, as there is no way back."""
    child = os.fork()
    if child == 0:
        try:
            _start_and_shed(setters)
            os._exit(not is_alone())
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


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
