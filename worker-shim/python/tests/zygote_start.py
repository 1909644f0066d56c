"""The zygote's shim's part, in Python: starts the real zygote, whose joint is the stand-in."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from .harness import PACKAGES, SECONDS, environment_of, execute

PRELOAD = "numpy?,pandas?,matplotlib.pyplot?,plotly.graph_objects?"
START = (
    f"import sys; sys.path.insert(0, {str(PACKAGES)!r}); import cellblock_worker.zygote as m; "
    "from tests.stand_in import Joint; m.Joint = Joint; m.main()"
)
PR_SET_CHILD_SUBREAPER = 36


class Zygote:
    """A zygote process, and where it listens."""

    def __init__(
        self,
        home: Path,
        preload: str = PRELOAD,
        env: dict[str, str] | None = None,
        search: Path | None = None,
    ) -> None:
        # Its workers become ours, so that we learn how they end.
        assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        self.home = home
        self._at = str(home / "zygote")
        self.log = home / "zygote.log"
        self._reports, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._reports.settimeout(SECONDS)
        environment = {**environment_of(home), "CELLBLOCK_PRELOAD": preload, **(env or {})}
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, self.log.open("wb") as log:
            listener.bind(self._at)
            listener.listen()
            files = [log.fileno(), log.fileno(), theirs.fileno(), listener.fileno()]
            # Isolated Python looks nowhere else.
            start = START if search is None else f"import sys; sys.path.append({str(search)!r}); {START}"
            self.pid = execute(files, Path("/"), [sys.executable, "-I", "-c", start], environment)
        theirs.close()
        message = self._reports.recv(1 << 16)
        assert message, self.log.read_text()
        self.report: dict[str, Any] = json.loads(message)

    def fork(
        self, files: list[int], cwd: Path, nonce: bytes, *, spare: bool = False
    ) -> tuple[int, socket.socket]:
        """A new worker that waits for its notebook: its pid, and where it waits."""
        worker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        worker.settimeout(SECONDS)
        worker.connect(self._at)
        request = json.dumps({"cwd": str(cwd), "nonce": nonce.hex(), "spare": spare}).encode()
        socket.send_fds(worker, [request], files)
        (pid,) = {worker.recv(20) for _ in range(3)} - {b"orphaned", b"waits"}
        return int(pid), worker

    def exit_code(self) -> int:
        """Its end, for which its reports have ended."""
        while self._reports.recv(1 << 16):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Ends it; its workers live on."""
        self._reports.close()
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
            self.pid = 0
