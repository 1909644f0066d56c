"""Where everything is that the parts measure, and a cellblockd for each of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import cellblock
from bench.peers import PATIENCE_SECONDS, BenchError

NO_WARM_START: Final = "this cellblockd has no --warm-start"
_POLL_SECONDS: Final = 0.02


@dataclass(frozen=True)
class Setup:
    """What the command line says."""

    bin_dir: Path
    python: Path
    """The workers'; also what the floors and bwrap run."""
    quick: bool
    runs: int | None = None
    """Instead of every part's own number."""
    crowd: int = 200
    """No part has more notebooks than this at once."""
    cgroup: str = "auto"

    def rounds(self, full: int, quick: int) -> int:
        """How many rounds a part takes."""
        return self.runs or (quick if self.quick else full)

    @cached_property
    def warm(self) -> bool:
        """Whether this cellblockd knows zygotes and spares."""
        told = subprocess.run(
            [self.bin_dir / "cellblockd", "--help"], capture_output=True, text=True, check=True
        )
        return "--warm-start" in told.stdout

    @cached_property
    def trees(self) -> tuple[Path, ...]:
        """The folders without which the interpreter does not run: the environment's and its base's."""
        code = "import sys; print(sys.prefix); print(sys.base_prefix)"
        told = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=True)
        return tuple(dict.fromkeys(Path(line) for line in told.stdout.splitlines()))

    @cached_property
    def bwrap(self) -> list[str] | None:
        """bubblewrap with the namespaces and the read-only system of a sandbox; None where it is not."""
        if (program := shutil.which("bwrap")) is None:
            return None
        command = [program, "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr"]
        for name in ("bin", "lib", "lib64"):
            if Path("/", name).exists():
                command += ["--symlink", f"usr/{name}", f"/{name}"]
        command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        # Last: what is mounted later covers what it lies below.
        for tree in self.trees:
            if not tree.is_relative_to("/usr"):
                command += ["--ro-bind", str(tree), str(tree)]
        return command

    @cached_property
    def floor(self) -> Path | None:
        """The program of bench/floor; None where it was not built."""
        program = self.bin_dir / "cellblock-bench-floor"
        return program if program.is_file() else None

    @contextlib.contextmanager
    def daemon(self, profiles: Mapping[str, str] | None = None) -> Iterator[Daemon]:
        """A private cellblockd, its workers warm where it can, with these profiles besides its own."""
        with tempfile.TemporaryDirectory(prefix="cellblock-bench-") as folder:
            for name, text in (profiles or {}).items():
                Path(folder, f"{name}.toml").write_text(text)
            with _variables(CELLBLOCK_CGROUP=self.cgroup, CELLBLOCK_WARM_START="on"):
                supervisor = cellblock.LocalSupervisor(
                    python=self.python, bin_dir=self.bin_dir, profiles=folder
                )
            with supervisor, supervisor.client(timeout=PATIENCE_SECONDS) as client:
                daemon = Daemon(self, supervisor, client)
                # What is warmed at the start takes processor time, whether it is used or not.
                daemon.settle()
                yield daemon


@dataclass(frozen=True)
class Daemon:
    """A cellblockd and a client of it."""

    setup: Setup
    supervisor: cellblock.LocalSupervisor
    client: cellblock.Client

    def settle(self, *wanted: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Waits until these profiles' zygotes are up, and until all that are known have done what they do."""
        if not self.setup.warm:
            return
        until = time.monotonic() + patience_seconds
        while problem := unsettled(self._warm(), wanted):
            if time.monotonic() > until:
                raise BenchError(f"after {patience_seconds:.0f} s: {problem}")
            time.sleep(_POLL_SECONDS)

    def _warm(self) -> list[dict[str, Any]]:
        told = subprocess.run(
            [self.setup.bin_dir / "cellctl", "warm", "--json", "--socket", self.supervisor.socket_path],
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode != 0:
            raise BenchError(f"`cellctl warm` failed: {told.stderr.strip()}")
        profiles: list[dict[str, Any]] = json.loads(told.stdout)["profiles"]
        return profiles


def unsettled(profiles: list[dict[str, Any]], wanted: tuple[str, ...]) -> str | None:
    """What is still to come; raises when a zygote will not be up."""
    known = {profile["profile"]: profile for profile in profiles}
    for name in wanted:
        if name not in known:
            return f"profile {name} is not warm"
        if known[name]["zygote"] not in ("up", "starting"):
            raise BenchError(
                f"profile {name}: the zygote is {known[name]['zygote']}: {known[name]['detail']}"
            )
    for name, profile in known.items():
        if profile["zygote"] == "starting":
            return f"the zygote of profile {name} is starting"
        if profile["zygote"] == "up" and profile["spares_ready"] < profile["spares_wanted"]:
            return f"profile {name} has {profile['spares_ready']} of {profile['spares_wanted']} spares"
    return None


@contextlib.contextmanager
def _variables(**values: str) -> Iterator[None]:
    """The environment that a program is started with."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
