"""In a zygote of the tests: the native library's joint, in Python, without a sandbox.

It forks twice, as the joint does: the worker must not be the zygote's child but the harness's, in the part
of the sandbox's init.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket

# The frame channel and the page are 3 and 4.
CHANNEL_FD = 5
PR_SET_PDEATHSIG = 1


class Joint:
    """Takes the place of `cellblock_worker.native.Joint`."""

    def __init__(self, path: str) -> None:
        assert path
        # A test that fails leaves none behind.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        self._cwd = ""

    def serve(self, listener: int) -> tuple[int, bytes, bool]:
        """Forks workers for whoever connects; returns in each worker."""
        listening = socket.socket(fileno=listener)
        while True:
            harness, _ = listening.accept()
            message, files, _, _ = socket.recv_fds(harness, 1 << 16, 8)
            request = json.loads(message)
            middle = os.fork()
            if middle == 0:
                if os.fork() != 0:
                    os._exit(0)
                harness.send(str(os.getpid()).encode())
                os.setsid()
                _install([os.open(os.devnull, os.O_RDONLY), *files, harness.detach()])
                listening.detach()
                self._cwd = request["cwd"]
                os.environ["HOME"] = self._cwd
                return CHANNEL_FD, bytes.fromhex(request["nonce"]), request["spare"]
            os.waitpid(middle, 0)
            harness.send(b"orphaned")
            for fd in (harness.detach(), *files):
                os.close(fd)

    def seal(self, channel: int) -> None:
        """Waits for the harness's word; only then the workspace is there."""
        with socket.socket(fileno=channel) as harness:
            harness.send(b"waits")
            assert harness.recv(10) == b"seal"
        os.chdir(self._cwd)


def _install(files: list[int]) -> None:
    high = [os.dup2(fd, 200 + at, inheritable=False) for at, fd in enumerate(files)]
    for at, fd in enumerate(high):
        os.dup2(fd, at, inheritable=True)
    os.closerange(len(files), 1024)
    os.set_inheritable(CHANNEL_FD, False)
