"""cellblock and its peer, as their users drive them.

`run_in_cellblock` and `run_in_kernel` run code to the result and the end of the code, both in the client's
hand.

Both engines have one warm worker and offer what an editor asks: `complete`, `inspect`, `variables`, each
timed from the question to its answer. Not timed as a whole is `texts(code)`: what a cell prints, each piece
with the moment in which the client had it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeAlias

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

import cellblock

PATIENCE_SECONDS: Final = 300.0
"""A hundred may start at once."""
KERNEL_SECONDS: Final = 120.0
"""The same of kernels: one whose port another has taken meanwhile never comes, and the part says so."""

Kernel: TypeAlias = tuple[KernelManager, BlockingKernelClient]


class BenchError(Exception):
    """An engine did not do what is being timed, so there is no figure."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A piece of text, as it was handed to the client."""

    at_ns: int
    """By CLOCK_MONOTONIC."""
    text: str


class Engine(Protocol):
    """Something that runs code; entered once, with one warm worker."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def texts(self, code: str) -> list[Arrival]:
        """Both streams and the text of displays, as they came."""
        ...

    def complete(self, code: str, expected: str) -> float:
        """Seconds to the completions at the end of the code, one of which ends in `expected`."""
        ...

    def inspect(self, code: str, expected: str) -> float:
        """Seconds to what stands at the end of the code, which says `expected`."""
        ...

    def variables(self, expected: int) -> float:
        """Seconds to the names in the namespace with types and sizes, as many as expected."""
        ...


class Cellblock:
    """The blocking Python client and a private cellblockd, which runs before anything is timed."""

    def __init__(self, bin_dir: Path, python: Path) -> None:
        self.name = "cellblock"
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

    def texts(self, code: str) -> list[Arrival]:
        """Both streams and the text of displays, as they came."""
        execution = self._warm.execute(code, timeout=PATIENCE_SECONDS)
        arrived = [
            Arrival(
                time.monotonic_ns(),
                output.text if isinstance(output, cellblock.Stream) else output.bundle.text(),
            )
            for output in execution
            if isinstance(output, cellblock.Stream | cellblock.Display)
        ]
        outcome = execution.outcome
        if outcome is None or not isinstance(outcome.end, cellblock.Ok):
            raise BenchError(f"cellblock ended {code!r} with {outcome}")
        return arrived

    def complete(self, code: str, expected: str) -> float:
        """One request and its reply."""
        started = time.perf_counter()
        found = self._warm.complete(code)
        seconds = time.perf_counter() - started
        _expect_match(self.name, code, expected, [match.text for match in found.matches])
        return seconds

    def inspect(self, code: str, expected: str) -> float:
        """One request and its reply."""
        started = time.perf_counter()
        found = self._warm.inspect(code)
        seconds = time.perf_counter() - started
        _expect_said(self.name, code, expected, found.text() if found else "")
        return seconds

    def variables(self, expected: int) -> float:
        """One request and its reply."""
        started = time.perf_counter()
        found = self._warm.variables()
        seconds = time.perf_counter() - started
        _expect_count(self.name, expected, len(found))
        return seconds


class Jupyter:
    """jupyter_client's blocking client and ipykernel, in the environment that runs this program."""

    def __init__(self) -> None:
        self.name = "jupyter_client + ipykernel"
        self._manager, self._client = start_kernel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_kernel(self._manager, self._client)

    def texts(self, code: str) -> list[Arrival]:
        """Both streams and the text of displays, as they came."""
        request = self._client.execute(code)
        arrived = [
            Arrival(
                time.monotonic_ns(), content["text"] if kind == "stream" else content["data"]["text/plain"]
            )
            for kind, content in _until_idle(self._client, request)
            if kind in ("stream", "display_data")
        ]
        _expect_ok(self._client, request, code)
        return arrived

    def stream(self, code: str) -> Iterator[str]:
        """What a cell prints, piece by piece as it comes."""
        request = self._client.execute(code)
        for kind, content in _until_idle(self._client, request):
            if kind == "stream":
                yield content["text"]
        _expect_ok(self._client, request, code)

    def complete(self, code: str, expected: str) -> float:
        """One complete request and its reply."""
        started = time.perf_counter()
        content = _reply(self._client, self._client.complete(code))
        seconds = time.perf_counter() - started
        _expect_match(self.name, code, expected, content["matches"])
        return seconds

    def inspect(self, code: str, expected: str) -> float:
        """One inspect request and its reply."""
        started = time.perf_counter()
        content = _reply(self._client, self._client.inspect(code))
        seconds = time.perf_counter() - started
        _expect_said(self.name, code, expected, content["data"].get("text/plain", ""))
        return seconds

    def variables(self, expected: int) -> float:
        """`%whos`: the protocol has no such request, and this is what people call."""
        started = time.perf_counter()
        text = "".join(arrival.text for arrival in self.texts("%whos"))
        seconds = time.perf_counter() - started
        # Two lines of heading; a multi-line value is shown on one.
        _expect_count(self.name, expected, len(text.splitlines()) - 2)
        return seconds


def _expect_match(engine: str, code: str, expected: str, found: Sequence[str]) -> None:
    # IPython says `x.name`, `.name` or `name`, whichever of its completers found it.
    if not any(match.endswith(expected) for match in found):
        raise BenchError(f"{engine} does not complete {code!r} to {expected!r} but to {found[:20]}")


def _expect_said(engine: str, code: str, expected: str, found: str) -> None:
    if expected not in found:
        raise BenchError(f"{engine} does not say {expected!r} of {code!r} but {found[:300]!r}")


def _expect_count(engine: str, expected: int, found: int) -> None:
    if found != expected:
        raise BenchError(f"{engine} has {found} variables instead of {expected}")


def run_in_cellblock(notebook: cellblock.Notebook, code: str, expected: str) -> None:
    """One Execution, to its Outcome."""
    execution = notebook.execute(code, timeout=PATIENCE_SECONDS)
    results = [output.bundle.text() for output in execution if isinstance(output, cellblock.Result)]
    outcome = execution.outcome
    if results != [expected] or outcome is None or not isinstance(outcome.end, cellblock.Ok):
        raise BenchError(f"cellblock answered {code!r} with {results} and {outcome}")


def start_kernel() -> Kernel:
    """A kernel that says it is ready, and its client."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=KERNEL_SECONDS)
    return manager, client


def end_kernel(manager: KernelManager, client: BlockingKernelClient) -> None:
    """At once."""
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run_in_kernel(client: BlockingKernelClient, code: str, expected: str) -> None:
    """One execute request, to its reply and `idle`."""
    request = client.execute(code)
    results = [
        content["data"]["text/plain"]
        for kind, content in _until_idle(client, request)
        if kind == "execute_result"
    ]
    _expect_ok(client, request, code)
    if results != [expected]:
        raise BenchError(f"ipykernel answered {code!r} with {results}")


def _until_idle(client: BlockingKernelClient, request: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Outputs as `execute_interactive` gets them, without its polling of stdin, which would cost time."""
    while True:
        message: dict[str, Any] = client.get_iopub_msg(timeout=KERNEL_SECONDS)
        if message["parent_header"].get("msg_id") != request:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            return
        yield kind, content


def _reply(client: BlockingKernelClient, request: str) -> dict[str, Any]:
    while True:
        reply: dict[str, Any] = client.get_shell_msg(timeout=KERNEL_SECONDS)
        if reply["parent_header"].get("msg_id") == request:
            content: dict[str, Any] = reply["content"]
            return content


def _expect_ok(client: BlockingKernelClient, request: str, code: str) -> None:
    content = _reply(client, request)
    if content["status"] != "ok":
        raise BenchError(f"ipykernel ended {code!r} with {content}")
