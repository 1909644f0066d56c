"""A cellblockd in a transient unit of systemd, for the programs beside this one."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from argparse import ArgumentParser, RawTextHelpFormatter
from collections.abc import Mapping
from pathlib import Path

import cellblock


def arguments(description: str) -> ArgumentParser:
    """What all of them are told."""
    parser = ArgumentParser(description=description, formatter_class=RawTextHelpFormatter)
    parser.add_argument("--bin-dir", type=Path, required=True)
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--user")
    parser.add_argument("--no-delegate", action="store_true")
    parser.add_argument("--no-unit", action="store_true")
    return parser


class Unit:
    """A cellblockd in a transient unit, or in none."""

    def __init__(
        self,
        bin_dir: Path,
        python: str,
        user: str | None,
        delegate: bool,
        given: Mapping[str, str],
        warm_start: bool = False,
        is_unit: bool = True,
    ) -> None:
        self._name = f"cellblock-test-{os.getpid()}"
        self.home = Path(tempfile.mkdtemp(prefix="cbl-", dir="/tmp"))
        profiles = self.home / "profiles"
        profiles.mkdir()
        for name, text in given.items():
            (profiles / f"{name}.toml").write_text(text)
        self.home.chmod(0o755)
        if user is not None:
            subprocess.run(["chown", "-R", user, self.home], check=True)
        self.socket = self.home / "run/cellblockd.sock"
        daemon: list[str | Path] = [bin_dir / "cellblockd", "--runtime-dir", self.home / "run"]
        daemon += ["--state-dir", self.home / "state", "--profiles", profiles, "--python", python]
        daemon += ["--warm-start", "on" if warm_start else "off"]
        self._command = daemon
        self._process: subprocess.Popen[bytes] | None = None
        if not is_unit:
            self._start()
            return
        unit = ["systemd-run", f"--unit={self._name}", "--collect"]
        unit += ["-pDelegate=yes"] * delegate
        unit += [] if user is None else [f"-pUser={user}"]
        subprocess.run([*unit, *daemon], check=True)

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command)

    def restart(self) -> None:
        """Kills the daemon, which is in no unit, and starts it again. Its anchor and workers live on."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._start()

    def cgroup(self) -> Path:
        """Its own folder."""
        show = ["systemctl", "show", "-PControlGroup", self._name]
        path = subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip()
        return Path("/sys/fs/cgroup" + path)

    def groups(self, notebook: str) -> list[Path]:
        """Those of a notebook's sandbox."""
        places = [self.cgroup(), *Path("/sys/fs/cgroup").glob("cellblock-*")]
        return [found for place in places for found in place.glob(f"{notebook}-*")]

    def stop(self) -> None:
        if self._process is None:
            subprocess.run(["systemctl", "stop", self._name], check=False)
        else:
            self._process.terminate()
            self._process.wait()
        subprocess.run(["rm", "-rf", self.home], check=False)


def connect(path: Path) -> cellblock.Client:
    deadline = time.monotonic() + 300
    while True:
        try:
            return cellblock.Client.connect(path, timeout=300)
        except cellblock.SupervisorNotRunning:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
