"""What a worker must not share with its siblings just because a fork shares it."""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

# Larger files are no settings. Matplotlib's list of fonts has 100 KB.
FILE_BYTES = 4 << 20

_CLOCK = ("_last_timestamp", "_last_timestamp_v6", "_last_timestamp_v7", "_last_counter_v7")


def reseed() -> None:
    """Draws anew what was drawn from chance in the zygote.

    Nothing here may be left to a comparison of process ids, as libraries do: zygote and workers are in pid
    namespaces of their own, where all of them have the same number. `random` is reseeded by Python in every
    fork, other generators are `generators`' affair, and `secrets`, `uuid4` and `os.urandom` ask the kernel
    each time.
    """
    modules = sys.modules
    if "_ssl" in modules:
        # OpenSSL knows a fork by the process id. A context made by an import would have keys from the same
        # source in every worker.
        modules["_ssl"].RAND_add(os.urandom(32), 32.0)
    if "uuid" in modules:
        # Half of a uuid1: the machine's address, or a number drawn once; and its clock.
        uuid = modules["uuid"]
        for name in ("_node", *(clock for clock in _CLOCK if hasattr(uuid, clock))):
            setattr(uuid, name, 0 if "counter" in name else None)
    if "tempfile" in modules:
        modules["tempfile"]._name_sequence = None  # type: ignore[attr-defined]
    if "multiprocessing.process" in modules:
        process = modules["multiprocessing.process"]
        # With the key of one notebook another could speak to its managers and pools.
        process.current_process().authkey = os.urandom(32)
        process._process_counter = itertools.count(1)  # type: ignore[attr-defined]
    if "multiprocessing.synchronize" in modules:
        names = modules["tempfile"]._RandomNameSequence
        modules["multiprocessing.synchronize"].SemLock._rand = names()


@dataclass(frozen=True)
class Files:
    """The settings of IPython and matplotlib that the zygote has in its temporary folder."""

    folders: list[Path]
    files: list[tuple[Path, bytes]]

    @classmethod
    def collect(cls) -> Files:
        """Reads them, for workers that have a temporary folder of their own."""
        folders: list[Path] = []
        files: list[tuple[Path, bytes]] = []
        roots = {os.environ[name] for name in ("IPYTHONDIR", "MPLCONFIGDIR") if name in os.environ}
        for root in sorted(roots):
            for found, _, names in os.walk(root):
                folder = Path(found)
                folders.append(folder)
                paths = [folder / name for name in names]
                files += [(path, path.read_bytes()) for path in paths if path.stat().st_size <= FILE_BYTES]
        return cls(folders, files)

    def make(self) -> None:
        """Writes them again."""
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)
        for file, content in self.files:
            file.write_bytes(content)
