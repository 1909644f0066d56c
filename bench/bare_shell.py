"""The floor of a round trip: IPython's own shell behind a socket pair, one byte there, the result back.

Run by the worker's Python with the socket as its stdin: `python bare_shell.py CODE`.
"""

from __future__ import annotations

import os
import socket
import sys

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


def main() -> None:
    """Answers until the other end is closed."""
    code = sys.argv[1]
    other = socket.socket(fileno=os.dup(0))
    # What the shell prints of a result has no reader here; no history is kept on disk.
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    other.send(b"ready")
    while other.recv(1):
        other.send(repr(shell.run_cell(code, store_history=True).result).encode())


if __name__ == "__main__":
    main()
