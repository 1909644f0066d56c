"""The memory of a few processes while something goes on."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

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


def _field(pid: int, file: str, name: str) -> int | None:
    """A field given in kB, in bytes; None when the process or the permission is missing."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return None
    values = (line.split()[1] for line in lines if line.startswith(name))
    return next((int(value) * 1024 for value in values), None)
