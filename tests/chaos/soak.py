"""A long run of short cells: what cellblockd has in memory and open must not grow with what it has done.

    python -m tests.chaos.soak --executions 100000

Several notebooks run cells that print, display, raise and assign, one after the other each. Memory and open
files of cellblockd are sampled all along. The first tenth fills what is kept of ended Executions on purpose;
after it memory may grow by a tenth, and open files not at all.

Exit code 0: it is flat, and each cell has ended as it should; 1: not.
"""

from __future__ import annotations

import sys
import threading
import time
from functools import partial
from typing import Final

from tests.faults.daemon import BOUND_SECONDS, Daemon, running
from tests.faults.threads import together

from cellblock import CellblockError

from . import census, report

_CELLS: Final = (
    ("print(K)", "ok"),
    ("value = list(range(K % 100))", "ok"),
    ("K", "ok"),
    ("raise ValueError(K)", "error"),
    ("from IPython.display import HTML, display\ndisplay(HTML(f'<b>{K}</b>'))", "ok"),
)
_PROFILES: Final = {"soak": "version = 1\nwarm_start = 'zygote'\n[checkpoints]\nwhen = 'none'\n"}
_ALLOWED_GROWTH: Final = 1.10
_SAMPLES: Final = 200


def main() -> int:
    """Runs what the command line says."""
    parser = report.arguments(__doc__)
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--notebooks", type=int, default=8)
    options = parser.parse_args()
    wrong: list[str] = []
    with running(Daemon(options.bin_dir, options.python, profiles=_PROFILES), wrong) as daemon:
        soak = _Soak(daemon, options.executions, options.notebooks)
        soak.run()
    wrong += soak.wrong
    memory = soak.memory
    settled = memory[len(memory) // 10 :]
    growth = max(settled[-5:]) / settled[0]
    files = soak.files[len(memory) // 10 :]
    if growth > _ALLOWED_GROWTH:
        wrong.append(f"cellblockd's memory has grown by {growth:.2f}: {settled[0]} to {settled[-1]} bytes")
    if min(files[-5:]) > max(files[:5]):
        wrong.append(f"cellblockd's open files have grown from {files[0]} to {files[-1]}")
    tables: dict[str, report.Table] = {
        "soak": {
            "executions": options.executions,
            "notebooks": options.notebooks,
            "seconds": round(soak.seconds, 1),
            "executions per second": round(options.executions / soak.seconds, 1),
            "processor of cellblockd per execution, ms": report.milliseconds(
                soak.processor_seconds / options.executions
            ),
        },
        "memory of cellblockd, MiB": {
            f"after {part} %": round(memory[min(len(memory) - 1, len(memory) * part // 100)] / 2**20, 2)
            for part in (0, 10, 25, 50, 75, 100)
        },
        "open files of cellblockd": {"after 10 %": files[0], "most": max(files), "at the end": files[-1]},
        "verdict": {"wrong": len(wrong)},
    }
    report.show(tables, options.json)
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


class _Soak:
    def __init__(self, daemon: Daemon, executions: int, notebooks: int) -> None:
        self.memory: list[int] = []
        self.files: list[int] = []
        self.wrong: list[str] = []
        self.seconds = self.processor_seconds = 0.0
        self._daemon = daemon
        self._shares = [len(range(number, executions, notebooks)) for number in range(notebooks)]
        self._every = max(1, executions // _SAMPLES)
        self._done = 0
        self._guard = threading.Lock()

    def run(self) -> None:
        """All of them."""
        began, used = time.monotonic(), census.processor_seconds(self._daemon.pid)
        together(
            [partial(self._notebook, f"soak{number}", share) for number, share in enumerate(self._shares)]
        )
        self.seconds = time.monotonic() - began
        self.processor_seconds = census.processor_seconds(self._daemon.pid) - used

    def _notebook(self, name: str, share: int) -> None:
        try:
            with self._daemon.client() as client:
                notebook = client.open(name, "soak")
                for number in range(share):
                    body, end = _CELLS[number % len(_CELLS)]
                    code = f"K = {number}\n{body}"
                    outcome = notebook.execute(code, timeout=BOUND_SECONDS).wait()
                    if outcome.kind != end:
                        self.wrong.append(f"{name}: cell {number} has ended with {outcome.end}")
                    self._count()
                notebook.delete()
        except CellblockError as error:
            self.wrong.append(f"{name}: {error!r}")

    def _count(self) -> None:
        with self._guard:
            self._done += 1
            if self._done % self._every == 0:
                self.memory.append(census.resident_bytes(self._daemon.pid))
                self.files.append(sum(census.descriptors(self._daemon.pid).values()))


if __name__ == "__main__":
    sys.exit(main())
