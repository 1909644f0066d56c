"""What a notebook that does nothing takes of the machine's memory, with pandas loaded."""

from __future__ import annotations

import time
from typing import Final

import cellblock
from bench import command
from bench.memory import descendants, processes_of, pss_bytes
from bench.parts.start import EXEC, PROFILES, profiles
from bench.peers import BenchError, Kernel, end_kernel, run_in_cellblock, run_in_kernel, start_kernel
from bench.rows import CELLBLOCK, JUPYTER, Row
from bench.setup import Setup

CODE: Final = "import pandas as pd; frame = pd.DataFrame({'a': range(10)}); int(frame.a.sum())"
RESULT: Final = "45"
_IDLE_SECONDS: Final = 2.0
"""After the last cell: until collectors and caches have done what they do when nothing runs."""


def measure(setup: Setup) -> list[Row]:
    """The row; a value for each notebook."""
    row = Row("memory", "memory of an idle notebook with pandas", "MB (PSS)")
    count = min(setup.crowd, setup.rounds(10, 3))
    kernels: list[Kernel] = []
    with setup.daemon(profiles(setup, EXEC)) as daemon:
        kinds = {CELLBLOCK: None, EXEC: PROFILES[EXEC][0]} if setup.warm else {CELLBLOCK: None}
        notebooks: dict[str, list[cellblock.Notebook]] = {engine: [] for engine in kinds}
        try:
            for place in range(count):
                command.progress(row.name, place, count)
                for number, (engine, profile) in enumerate(kinds.items()):
                    notebook = daemon.client.open(f"idle-{number}-{place}", profile)
                    run_in_cellblock(notebook, CODE, RESULT)
                    notebooks[engine].append(notebook)
                kernels.append(start_kernel())
                run_in_kernel(kernels[-1][1], CODE, RESULT)
            daemon.settle()
            time.sleep(_IDLE_SECONDS)
            try:
                for engine, ours in notebooks.items():
                    found = [pss_bytes(processes_of(notebook)) / 1e6 for notebook in ours]
                    row.values(engine, "cellblock").extend(found)
                found = [pss_bytes(descendants(pid_of(kernel))) / 1e6 for kernel in kernels]
                row.values(JUPYTER, "peer").extend(found)
            except PermissionError as error:
                row.engines.clear()
                row.absent[CELLBLOCK] = str(error)
        finally:
            for kernel in kernels:
                end_kernel(*kernel)
    row.must(CELLBLOCK, "p50", 8)
    row.must_be_times_better(CELLBLOCK, 10)
    return [row]


def pid_of(kernel: Kernel) -> int:
    """The kernel's process."""
    manager, _ = kernel
    pid = getattr(manager.provisioner, "pid", None)
    if not isinstance(pid, int):
        raise BenchError("jupyter_client does not say which process its kernel is")
    return pid
