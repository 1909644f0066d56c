"""The memory of processes: of a few while something goes on, of a whole tree at one moment."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import cellblock
from bench.peers import BenchError

INTERVAL_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment, in bytes."""

    seconds: float
    rss: int
    pss: int | None
    """None: we may not read it (it takes root, or the same user)."""


class Sampler:
    """Looks at processes from a thread of its own until it is left."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.samples: dict[str, list[Sample]] = {name: [] for name in pids}
        self._pids = pids
        self._started = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            self._sample()

    def _sample(self) -> None:
        for name, pid in self._pids.items():
            rss = _field(pid, "status", "VmRSS:")
            if rss is not None:
                seconds = time.monotonic() - self._started
                self.samples[name].append(Sample(seconds, rss, _field(pid, "smaps_rollup", "Pss:")))


def parent_of(pid: int) -> int:
    """The process that started another one, or took it over."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("PPid:"):
            return int(line.split()[1])
    raise ProcessLookupError(f"process {pid} has no parent")


def descendants(root: int) -> list[int]:
    """A process and all that came of it, parents before their children; from one look at all processes."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        # It may have ended since.
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return found


def processes_of(notebook: cellblock.Notebook) -> list[int]:
    """The shim, init, the worker, and what the worker has started."""
    worker = notebook.status().worker_pid
    if worker is None:
        raise BenchError(f"{notebook.name} has no worker")
    init = parent_of(worker)
    return [parent_of(init), *descendants(init)]


def pss_bytes(pids: Iterable[int]) -> int:
    """What these processes take of the machine, each shared page divided by those who share it.

    Raises PermissionError where we may not read it: it takes root, or the same user.
    """
    total = 0
    for pid in pids:
        # It may have ended since; of a zombie the file is empty.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def available_bytes() -> int:
    """What the machine could still give without swapping."""
    found = _field_of(Path("/proc/meminfo"), "MemAvailable:")
    if found is None:
        raise OSError("/proc/meminfo does not say how much memory is available")
    return found


def _field(pid: int, file: str, name: str) -> int | None:
    return _field_of(Path(f"/proc/{pid}/{file}"), name)


def _field_of(file: Path, name: str) -> int | None:
    """A field given in kB, in bytes; None when the file, the field or the permission is missing."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith(name))
    return next((int(value) * 1024 for value in values), None)
