"""The environment of the checkpoints' peers: made once, from a pinned, hashed list."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.peers import BenchError

LIST: Final = Path(__file__).parent / "peers-requirements.txt"
_STAMP: Final = "cellblock-stamp"
_SECONDS: Final = 600.0
"""For a hundred wheels over a slow line."""


def interpreter(python: Path, parent: Path | None = None) -> Path:
    """The environment's interpreter, of the same Python as `python`.

    It lies in `parent`, by default beside the environment that runs this, and is made again when the list or
    the Python has changed.

    Raises:
        BenchError: It cannot be made; with pip's last words.
    """
    folder = (parent or Path(sys.prefix).parent) / "checkpoint-peers"
    base = Path(_told(python, "import sys; print(sys._base_executable)"))
    # The folder too: programs in it name it.
    stamp = f"1\n{folder}\n{base}\n{_told(base, 'import sys; print(sys.version)')}\n{LIST.read_text()}"
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp_file = folder / _STAMP
        if not stamp_file.is_file() or stamp_file.read_text() != stamp:
            _make(folder, base)
            stamp_file.write_text(stamp)
    return folder / "bin" / "python"


def _make(folder: Path, base: Path) -> None:
    print(f"making the Python environment of the checkpoints' peers in {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    _run([str(base), "-m", "venv", "--without-pip", str(folder)])
    pip = [_with_pip(base), "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    # The list is whole: two backports that kishu asks for are left out of it, see peers-overrides.txt.
    options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(LIST)]
    _run([*pip, *options])


def _with_pip(base: Path) -> str:
    """An interpreter that has pip: Debian's own has none for an environment."""
    for program in (str(base), "python3", "python3.13", "python3.12", "python3.11", "/usr/bin/python3"):
        found = shutil.which(program)
        if found and subprocess.run([found, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return found
    raise BenchError("no python3 with pip: `apt-get install python3-pip` installs it")


def _told(python: Path, code: str) -> str:
    return subprocess.run(
        [python, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=_SECONDS
    )
    if done.returncode != 0:
        raise BenchError(f"`{' '.join(command[:4])} …` failed: {done.stderr[-1000:].strip()}")
