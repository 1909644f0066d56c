"""`!cmd`: a shell command whose text goes straight into our pipe."""

from __future__ import annotations

import os
import signal
import subprocess

# How long a command may take to heed an interrupt, in seconds; below the shim's own grace.
GRACE_SECONDS = 1.0


def run(command: str) -> int:
    """Runs it to its end and returns its exit code, negative for a signal.

    Its stderr joins its stdout, as in ipykernel (where a pty does that): so its order is its own.
    """
    if command.rstrip().endswith("&"):
        raise OSError("Background processes not supported.")
    shell = os.environ.get("SHELL") or "/bin/sh"
    process = subprocess.Popen(
        command,
        shell=True,
        executable=shell,
        stdin=subprocess.DEVNULL,
        stdout=1,
        stderr=subprocess.STDOUT,
        # Its own group: an interrupt reaches what the shell has started too.
        process_group=0,
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        break
