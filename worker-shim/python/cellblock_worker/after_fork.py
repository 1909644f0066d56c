"""What a worker must not share with its siblings just because a fork shares it."""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

# Files larger than this are nobody's settings.
FILE_BYTES = 64 << 10


def reseed() -> None:
    """Draws anew what was drawn from chance in the zygote.

    `random`, `secrets`, `ssl` and `os.urandom` need no help: Python reseeds the first itself, and the
    others ask the kernel, or notice a fork.
    """
    modules = sys.modules
    if "numpy.random" in modules:
        # The generator behind numpy.random.rand and its like; others belong to whoever made them.
        modules["numpy.random"].seed()
    if "uuid" in modules:
        # Half of a uuid1: the machine's address, or a number drawn once; and its clock.
        modules["uuid"]._node = modules["uuid"]._last_timestamp = None  # type: ignore[attr-defined]
    if "tempfile" in modules:
        modules["tempfile"]._name_sequence = None  # type: ignore[attr-defined]
    if "multiprocessing.process" in modules:
        process = modules["multiprocessing.process"]
        # With the key of one notebook another could speak to its managers and pools.
        process.current_process().authkey = os.urandom(32)
        process._process_counter = itertools.count(1)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Files:
    """What imports and the shell have made in the zygote's temporary folder, for the worker's own."""

    folders: list[Path]
    files: list[tuple[Path, bytes]]
    links: list[tuple[Path, Path]]

    @classmethod
    def collect(cls) -> Files:
        """Looks at the settings of IPython and matplotlib."""
        folders: list[Path] = []
        files: list[tuple[Path, bytes]] = []
        links: list[tuple[Path, Path]] = []
        cache = Path(os.environ.get("CELLBLOCK_CACHE", "/nowhere"))
        roots = {os.environ[name] for name in ("IPYTHONDIR", "MPLCONFIGDIR") if name in os.environ}
        for root in sorted(roots):
            for found, _, names in os.walk(root):
                folder = Path(found)
                folders.append(folder)
                for name in names:
                    cached = cache / folder.name / name
                    if cached.is_file():
                        # The list of fonts, which every worker has for reading anyway.
                        links.append((folder / name, cached))
                    elif (folder / name).stat().st_size <= FILE_BYTES:
                        files.append((folder / name, (folder / name).read_bytes()))
        return cls(folders, files, links)

    def make(self) -> None:
        """Makes them again."""
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)
        for file, content in self.files:
            file.write_bytes(content)
        for link, target in self.links:
            link.symlink_to(target)
