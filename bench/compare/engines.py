"""Two ways to run a notebook unmodified, each in a folder of its own that holds the same files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import nbformat
from nbclient import NotebookClient

CELL_SECONDS: Final = 600
"""The default profile's wall time for one Execution."""
_RUN_SECONDS: Final = 3600
"""For a whole notebook: only there so that a fault of ours ends."""

_CELLS_OWN_ENDS: Final = (0, 1, 4, 5)
"""cellctl's exit codes for what cells did: all well, an exception, out of time, the worker died."""

# What a program needs to know of its surroundings; the rest of ours (proxies, settings of tools, the
# backend of matplotlib) would make the peer's cells differ for reasons that are not the engine's.
_PEER_VARIABLES: Final = ("HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER")


class EngineError(Exception):
    """The notebook was not run to its end, for a reason that is not in its cells."""


@dataclass(frozen=True, slots=True)
class Ipykernel:
    """nbclient and ipykernel in the environment that runs this program: the yardstick."""

    name: str = "ipykernel"

    def run(self, notebook: Path, data: Sequence[str]) -> dict[str, Any]:
        """Runs it like `jupyter execute --allow-errors`."""
        document = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
        with _folder(notebook, data) as folder:
            client = NotebookClient(
                document,
                kernel_name="python3",
                timeout=CELL_SECONDS,
                allow_errors=True,
                resources={"metadata": {"path": str(folder)}},
            )
            try:
                # What the kernel process itself says, and what it echoes, is no output of a cell.
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                client.execute(env=self._variables(folder), **quiet)
            except Exception as error:
                raise EngineError(f"{self.name}: {type(error).__name__}: {error}") from error
        executed: dict[str, Any] = json.loads(nbformat.writes(document))  # type: ignore[no-untyped-call]
        return executed

    def _variables(self, folder: Path) -> dict[str, str]:
        variables = {name: os.environ[name] for name in _PEER_VARIABLES if name in os.environ}
        # Kept between runs: the list of fonts takes seconds to make, and says so on stderr.
        cache = Path(tempfile.gettempdir()) / f"cellblock-compare-{os.getuid()}"
        cache.mkdir(mode=0o700, exist_ok=True)
        variables["MPLCONFIGDIR"] = str(cache)
        # A worker's own: what else is on a developer's PATH may be a wrapper of a program, or another one.
        variables["PATH"] = ":".join([str(Path(sys.executable).parent), "/usr/local/bin:/usr/bin:/bin"])
        # Nobody's own start-up files and history.
        variables["IPYTHONDIR"] = str(folder.with_name("ipython"))
        return variables


@dataclass(frozen=True, slots=True)
class Cellctl:
    """`cellctl run`, as a person would call it."""

    program: Path
    python: Path
    name: str = "cellblock"

    def run(self, notebook: Path, data: Sequence[str]) -> dict[str, Any]:
        """Runs it with a private daemon."""
        with _folder(notebook, data) as folder:
            result = folder.with_name("result.ipynb")
            command: list[str | Path] = [self.program, "run", "--private", "--python", self.python]
            command += ["--allow-errors", "--timeout", str(CELL_SECONDS), "-o", result]
            # Where the peer runs, the notebook's own file lies too, and cells list their folder.
            for name in [notebook.name, *data]:
                command += ["--with", folder / name]
            done = subprocess.run(
                [*command, folder / notebook.name],
                capture_output=True,
                text=True,
                timeout=_RUN_SECONDS,
                check=False,
            )
            if done.returncode not in _CELLS_OWN_ENDS or not result.is_file():
                raise EngineError(f"{self.name}: cellctl ended with code {done.returncode}: {done.stderr}")
            executed: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
            return executed


Engine: TypeAlias = Ipykernel | Cellctl


@contextmanager
def _folder(notebook: Path, data: Sequence[str]) -> Iterator[Path]:
    """A folder with a copy of the notebook and its data, so that no run sees what another one wrote."""
    with tempfile.TemporaryDirectory(prefix="compare-") as temporary:
        folder = Path(temporary) / "workspace"
        folder.mkdir()
        shutil.copy(notebook, folder)
        for name in data:
            source = notebook.parent / name
            if source.is_dir():
                shutil.copytree(source, folder / name)
            elif source.exists():
                shutil.copy(source, folder / name)
            else:
                raise EngineError(f"there is no `{source}` to bring along")
        yield folder
