"""A cellblockd that can be killed and started again, and that is checked for what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from cellblock import Client
from cellblock._frames import FLAG_LAST, Codec, Frame, Kind

from . import processes
from .processes import Process

BOUND_SECONDS: Final = 60.0
"""What takes longer hangs: a start, a cell, an answer. Each takes well below a second."""

_FULL_BYTES: Final = 1 << 20

_CHECKPOINTS: Final = '[checkpoints]\nwhen = "background"\n'
PROFILES: Final = {
    "default": "version = 1\n" + _CHECKPOINTS,
    "warm": "version = 1\nwarm_start = 'zygote'\npreload = ['numpy']\nspares = 0\n" + _CHECKPOINTS,
}
"""Workers that are executed, and workers that are forked."""


class Daemon:
    """One on a folder of its own.

    `disk_bytes` puts its state on a disk of that size, which nobody else sees and which outlives the daemon.
    """

    def __init__(
        self,
        bin_dir: Path,
        python: Path,
        disk_bytes: int | None = None,
        *,
        profiles: Mapping[str, str] = PROFILES,
        options: Sequence[str] = (),
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="cbf-", dir="/tmp"))
        self.home.chmod(0o711)
        for name in ("state", "profiles"):
            (self.home / name).mkdir()
        for name, text in profiles.items():
            (self.home / f"profiles/{name}.toml").write_text(text)
        self._command = [str(bin_dir / "cellblockd"), "--print-ready", "--warm-start", "on", *options]
        for option, value in (
            ("runtime-dir", self.home / "run"),
            ("state-dir", self.home / "state"),
            ("profiles", self.home / "profiles"),
            ("cache-dir", _cache_folder()),
            ("python", python),
        ):
            self._command += [f"--{option}", str(value)]
        self._disk = None if disk_bytes is None else _mount(self.home / "state", disk_bytes)
        if self._disk is not None:
            self._command[:0] = ["nsenter", f"--mount=/proc/{self._disk.pid}/ns/mnt", "--"]
        self._log = (self.home / "log").open("ab")
        self._guard = threading.Lock()
        self.kills = 0
        self.is_emptied = True
        """Whether all notebooks are closed before the end."""
        self._process = self._launch()
        self.state = self.home / "state"
        if self._disk is not None:
            self.state = Path(f"/proc/{self._disk.pid}/root{self.state}")
        self._known_anchor: Process | None = None

    def client(self) -> Client:
        """One that waits for it to come back."""
        return Client.connect(self.socket, timeout=BOUND_SECONDS, reconnect_seconds=BOUND_SECONDS)

    @property
    def pid(self) -> int:
        """The process id of the one that runs now."""
        return self._process.pid

    def is_disk_full(self) -> bool:
        """Whether it has hardly any room now."""
        return shutil.disk_usage(self.state).free < _FULL_BYTES

    def store(self, notebook: str) -> Path:
        """A notebook's folder of checkpoints."""
        return self.state / "notebooks" / notebook / "checkpoints"

    def sandbox(self, notebook: str) -> dict[str, Process]:
        """The processes of a notebook, by what they are."""
        anchor = self.anchor()
        return {} if anchor is None else processes.sandbox(anchor.pid, notebook)

    def kill_and_restart(self) -> bool:
        """SIGKILL, and another on the same folders, which takes over what lives."""
        with self._guard:
            self.kill()
            self.start()
        return True

    def kill(self) -> None:
        """SIGKILL, and no other."""
        self._process.kill()
        self.kills += 1
        self._process.wait()
        self._close_pipes()

    def start(self) -> None:
        """Another on the same folders, after `kill`; returns when it is ready."""
        self._process = self._launch()

    def log(self) -> str:
        """What it and its anchor have logged."""
        files = (self.home / "log", self.home / "run/workers/anchor.log")
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def log_of(self, notebook: str, lines: int = 30) -> list[str]:
        """The last that cellblockd has logged of a notebook."""
        of_it = [line for line in self.log().splitlines() if f"notebook={notebook}" in line]
        return of_it[-lines:]

    def end(self) -> list[str]:
        """Ends it and removes its folder; what was left behind or went wrong, in words."""
        mark = self.home.name
        known = processes.marked(mark)
        wrong = []

        def left() -> list[Process]:
            return list({*(process for process in known if process.lives()), *processes.marked(mark)})

        self._process.terminate()
        try:
            self._process.wait(BOUND_SECONDS)
        except subprocess.TimeoutExpired:
            wrong.append("cellblockd did not end")
            self._process.kill()
            self._process.wait()
        self._close_pipes()
        if not self._end_anchor():
            wrong.append("the anchor did not answer")
        if self._disk is not None:
            self._disk.kill()
            self._disk.wait()
            for pipe in (self._disk.stdin, self._disk.stdout):
                _pipe(pipe).close()
        if not processes.within(20, lambda: not left()):
            wrong.append(f"processes are left: {processes.described(left())}")
        if not processes.within(20, lambda: not processes.loops(mark)):
            wrong.append(f"loop devices are left: {processes.loops(mark)}")
        wrong += [f"a mount is left: {mount}" for mount in processes.mounts(mark)]
        log = self.log()
        wrong += [line for line in log.splitlines() if "panicked" in line]
        run = self.home / "run"
        # Its log is there for whoever comes next; who leaves notebooks open leaves what they have in there.
        left_open = [] if self.is_emptied else list((run / "workers").glob("*.sock"))
        wrong += [
            f"a file is left: {path}" for path in run.rglob("*") if path.is_socket() and path not in left_open
        ]
        self._log.close()
        for process in left():
            process.kill()
        shutil.rmtree(self.home)
        return wrong

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.home / "run/cellblockd.sock"

    def anchor(self) -> Process | None:
        """Its anchor, once it has one."""
        # It outlives its daemon, and then is nobody's child: it is found by its arguments.
        if self._known_anchor is None or not self._known_anchor.lives():
            self._known_anchor = processes.with_argument(str(self._anchor_socket))
        return self._known_anchor

    @property
    def _anchor_socket(self) -> Path:
        return self.home / "run/workers/anchor.sock"

    def _end_anchor(self) -> bool:
        """Tells it to end with all its shims; whether it did, or there was none."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(BOUND_SECONDS)
            try:
                connection.connect(str(self._anchor_socket))
            except OSError:
                return True
            connection.send(Frame(Kind.ANCHOR_REQUEST, Codec.JSON, FLAG_LAST, 1, b'"shutdown"').encode())
            with contextlib.suppress(OSError):
                return bool(connection.recv(4096))
            return False

    def _launch(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, bufsize=0
        )
        output = _pipe(process.stdout)
        line = b""
        until = time.monotonic() + BOUND_SECONDS
        while not line.endswith(b"\n"):
            if not select.select([output], [], [], max(0.0, until - time.monotonic()))[0]:
                raise RuntimeError(f"cellblockd is not ready after {BOUND_SECONDS} s:\n{self.log()}")
            data = output.read(256)
            if not data:
                raise RuntimeError(f"cellblockd ended before it was ready:\n{self.log()}")
            line += data
        return process

    def _close_pipes(self) -> None:
        _pipe(self._process.stdin).close()
        _pipe(self._process.stdout).close()


@contextlib.contextmanager
def running(daemon: Daemon, wrong: list[str]) -> Iterator[Daemon]:
    """Ends it, whatever happens, and adds to `wrong` what is left of it."""
    try:
        yield daemon
    finally:
        wrong += daemon.end()


def _mount(folder: Path, size: int) -> subprocess.Popen[bytes]:
    """A process whose mount namespace has a disk of that size at a folder."""
    script = f'mount -t tmpfs -o size={size},mode=755 small "$0" && echo mounted && exec cat'
    command = ["unshare", "--mount", "sh", "-c", script, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    if _pipe(process.stdout).readline() != b"mounted\n":
        raise RuntimeError(f"no disk could be mounted at `{folder}`")
    return process


def _cache_folder() -> Path:
    # What takes seconds to make is the same for all daemons of a user.
    folder = Path(f"/var/tmp/cellblock-test-cache-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "it was started with pipes"
    return stream
