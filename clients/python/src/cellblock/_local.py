"""A private cellblockd for scripts and tests: started here, ended here, leaving nothing behind."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, TypeAlias

from ._client import Client
from ._exceptions import SupervisorStartFailed

StrPath: TypeAlias = str | os.PathLike[str]

_STOP_SECONDS: Final = 15.0
"""From closing its standard input to SIGTERM, and again from there to SIGKILL."""


class LocalSupervisor:
    """Starts a cellblockd that lives as long as this object, and not longer than this process.

    ::

        with cellblock.LocalSupervisor() as supervisor, supervisor.client() as client:
            print(client.open("scratch").execute("1 + 1").result().outputs)

    `python` is the interpreter of its workers (needs IPython), `state_dir` where notebooks
    and their files are kept (by default nowhere: they go with it), `bin_dir` where the programs are
    (else `CELLBLOCK_BIN_DIR`, else `PATH`), `profiles` a folder of profiles.
    """

    def __init__(
        self,
        python: StrPath | None = None,
        state_dir: StrPath | None = None,
        bin_dir: StrPath | None = None,
        profiles: StrPath | None = None,
        *,
        start_seconds: float = 60.0,
    ) -> None:
        program = _find_program(bin_dir)
        # In /tmp, because a socket's path has 107 bytes and TMPDIR can be any length.
        self._folder = Path(tempfile.mkdtemp(prefix="cb-", dir="/tmp"))
        try:
            command = [str(program), "--private", "--runtime-dir", str(self._folder)]
            # Without one it keeps its state below that folder, and removes all of it at its end, which
            # comes even when we are killed. So nothing of ours lies in there.
            if state_dir is not None:
                command += ["--state-dir", os.fspath(state_dir)]
            # What takes seconds to make is the same for all of a user's private daemons.
            command += ["--cache-dir", str(_cache_folder())]
            for option, value in (("--python", python), ("--profiles", profiles)):
                if value is not None:
                    command += [option, os.fspath(value)]
            self._log = _open_log(self._folder)
            # For as long as this object: what it logged can be read after its end too.
            weakref.finalize(self, os.close, self._log)
            self._process = _start(command, self._log)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        # Also at exit of the interpreter, and when nobody holds this object any more.
        self._end = weakref.finalize(self, _stop, self._process, self._folder)
        try:
            self.socket_path = self._wait_ready(time.monotonic() + start_seconds)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """cellblockd's process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What cellblockd wrote to stderr so far."""
        # At a place: reading on from the file's own would move where cellblockd writes.
        return os.pread(self._log, os.fstat(self._log).st_size, 0).decode(errors="replace")

    def client(self, *, timeout: float | None = 10.0) -> Client:
        """A client of it. It does not try to reconnect: nobody starts a private cellblockd again."""
        return Client.connect(self.socket_path, timeout=timeout, reconnect_seconds=0)

    def stop(self) -> None:
        """Ends it and everything it started, and removes what it kept in temporary folders."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_ready(self, until: float) -> Path:
        """Reads the line `ready <socket>`."""
        output = _pipe(self._process.stdout)
        line = b""
        while not line.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise self._failed("is not ready in time")
            # One read(2) each, so that select never waits for what lies in a buffer already.
            data = os.read(output.fileno(), 4096)
            if not data:
                code = self._process.wait(_STOP_SECONDS)
                raise self._failed(f"ended with code {code} before it was ready")
            line += data
        word, _, path = line.decode(errors="replace").strip().partition(" ")
        if word != "ready" or not path:
            raise self._failed(f"said {line[:80]!r} where `ready <socket>` was expected")
        return Path(path)

    def _failed(self, what: str) -> SupervisorStartFailed:
        said = "\n".join(self.log.strip().splitlines()[-20:]) or "(nothing)"
        return SupervisorStartFailed(f"cellblockd {what}; it wrote to stderr:\n{said}")


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("CELLBLOCK_CACHE_DIR") or Path(base) / "cellblock")


def _find_program(bin_dir: StrPath | None) -> Path:
    given = bin_dir or os.environ.get("CELLBLOCK_BIN_DIR")
    if given:
        program = Path(given, "cellblockd")
        if not program.is_file():
            raise SupervisorStartFailed(f"no cellblockd at `{program}`: build it with `cargo build`")
        return program
    if found := shutil.which("cellblockd"):
        return Path(found)
    raise SupervisorStartFailed("no cellblockd on PATH: install it, or say where with CELLBLOCK_BIN_DIR")


def _open_log(folder: Path) -> int:
    """A file without a name, which nobody needs to remove.

    It is a file because a pipe that nobody reads would stop cellblockd when it is full.
    """
    descriptor, name = tempfile.mkstemp(dir=folder)
    Path(name).unlink()
    return descriptor


def _start(command: list[str], log: int) -> subprocess.Popen[bytes]:
    # Socket and state lie in our folder, whatever the system's cellblockd was told by variables.
    ours = {"CELLBLOCK_SOCKET", "CELLBLOCK_STATE_DIR"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
            env=environment,
        )
    except OSError as error:
        raise SupervisorStartFailed(f"failed to start `{command[0]}`: {error}") from error


def _stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Closing its standard input is the lifeline's end; the kernel does the same when we die."""
    with contextlib.suppress(OSError):
        _pipe(process.stdin).close()
    for harder in (process.terminate, process.kill):
        try:
            process.wait(_STOP_SECONDS)
            break
        except subprocess.TimeoutExpired:
            harder()
    process.wait()
    _pipe(process.stdout).close()
    # Mostly it is gone by now: cellblockd removes it itself, unless it was killed.
    shutil.rmtree(folder, ignore_errors=True)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "it was started with pipes"
    return stream
