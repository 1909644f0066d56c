"""cellblock and its peer, as their users drive them.

Both engines offer the same two things, timed from the same point to the same point:

* `first_result(code, expected)`: from "I want to run code somewhere new" to the result and the end of
  the code, both in the client's hand.
* `round_trip(code, expected)`: the same in a worker that is there and warm.
"""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

import cellblock

PATIENCE_SECONDS: Final = 60.0


class BenchError(Exception):
    """An engine did not do what is being timed, so there is no figure."""


class Engine(Protocol):
    """Something that runs code; entered once, with one warm worker for `round_trip`."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def first_result(self, code: str, expected: str) -> float:
        """Seconds; what was started for it is ended again, untimed."""
        ...

    def round_trip(self, code: str, expected: str) -> float:
        """Seconds."""
        ...


class Cellblock:
    """The blocking Python client and a private cellblockd, which runs before anything is timed."""

    def __init__(self, bin_dir: Path, python: Path) -> None:
        self.name = "cellblock"
        self._numbers = itertools.count(1)
        self._supervisor = cellblock.LocalSupervisor(python=python, bin_dir=bin_dir)
        try:
            self._client = self._supervisor.client()
            self._warm = self._client.open("warm")
        except BaseException:
            self._supervisor.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        self._supervisor.stop()

    def first_result(self, code: str, expected: str) -> float:
        """A notebook that cellblockd has never heard of."""
        name = f"new-{next(self._numbers)}"
        started = time.perf_counter()
        notebook = self._client.open(name)
        _run_in_cellblock(notebook, code, expected)
        seconds = time.perf_counter() - started
        notebook.delete()
        return seconds

    def round_trip(self, code: str, expected: str) -> float:
        """One Execution, to its Outcome."""
        started = time.perf_counter()
        _run_in_cellblock(self._warm, code, expected)
        return time.perf_counter() - started


class Jupyter:
    """jupyter_client's blocking client and ipykernel, in the environment that runs this program."""

    def __init__(self) -> None:
        self.name = "jupyter_client + ipykernel"
        self._manager, self._client = _start_kernel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end_kernel(self._manager, self._client)

    def first_result(self, code: str, expected: str) -> float:
        """A new kernel."""
        started = time.perf_counter()
        manager, client = _start_kernel()
        try:
            _run_in_kernel(client, code, expected)
            return time.perf_counter() - started
        finally:
            _end_kernel(manager, client)

    def round_trip(self, code: str, expected: str) -> float:
        """One execute request, to its reply and `idle`."""
        started = time.perf_counter()
        _run_in_kernel(self._client, code, expected)
        return time.perf_counter() - started


def _run_in_cellblock(notebook: cellblock.Notebook, code: str, expected: str) -> None:
    execution = notebook.execute(code, timeout=PATIENCE_SECONDS)
    results = [output.bundle.text() for output in execution if isinstance(output, cellblock.Result)]
    outcome = execution.outcome
    if results != [expected] or outcome is None or not isinstance(outcome.end, cellblock.Ok):
        raise BenchError(f"cellblock answered {code!r} with {results} and {outcome}")


def _start_kernel() -> tuple[KernelManager, BlockingKernelClient]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE_SECONDS)
    return manager, client


def _end_kernel(manager: KernelManager, client: BlockingKernelClient) -> None:
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def _run_in_kernel(client: BlockingKernelClient, code: str, expected: str) -> None:
    """As `execute_interactive` does it, without its polling of stdin, which would cost the peer time."""
    request = client.execute(code)
    results: list[str] = []
    while True:
        message: dict[str, Any] = client.get_iopub_msg(timeout=PATIENCE_SECONDS)
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        if message["msg_type"] == "execute_result":
            results.append(content["data"]["text/plain"])
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            break
    reply: dict[str, Any] = client.get_shell_msg(timeout=PATIENCE_SECONDS)
    while reply["parent_header"].get("msg_id") != request:
        reply = client.get_shell_msg(timeout=PATIENCE_SECONDS)
    if results != [expected] or reply["content"]["status"] != "ok":
        raise BenchError(f"ipykernel answered {code!r} with {results} and {reply['content']}")
