"""Many kernels and many notebooks, each lot driven from one thread.

Kernels are driven by one loop over their sockets, without a thread or a task for each: the peer's client is
to be no brake.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import zmq

import cellblock
from bench.memory import available_bytes
from bench.peers import (
    PATIENCE_SECONDS,
    BenchError,
    Kernel,
    end_kernel,
    run_in_cellblock,
    run_in_kernel,
    start_kernel,
)

SPARE_BYTES: Final = 3 << 30
"""So much memory the machine keeps: no crowd is worth a killed process."""
_TOGETHER: Final = os.cpu_count() or 1
"""How many are opened at a time where it is not all at once."""
_PARTS: Final = ("result", "reply", "idle")
"""What a kernel's answer consists of."""


class Kernels:
    """Kernels with pandas or without, until it is left."""

    def __init__(self) -> None:
        self.all: list[Kernel] = []

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Of all."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda kernel: end_kernel(*kernel), self.all))
        self.all.clear()

    def grow(self, count: int, code: str, expected: str, together: int = _TOGETHER) -> list[float]:
        """Starts so many more; the seconds from the beginning of all to each one's result."""
        began = time.perf_counter()

        def one(_: int) -> float:
            kernel = start_kernel()
            self.all.append(kernel)
            run_in_kernel(kernel[1], code, expected)
            return time.perf_counter() - began

        with ThreadPoolExecutor(max(1, together)) as pool:
            return list(pool.map(one, range(count)))

    def cells_per_second(self, code: str, expected: str, seconds: float) -> float:
        """Every kernel runs the code again and again; its next run begins when reply and `idle` have come."""
        poller = zmq.Poller()
        channels = {}
        # The request, and what has not come yet.
        waiting: dict[int, tuple[str, set[str]]] = {}
        for place, (_, client) in enumerate(self.all):
            for channel in (client.iopub_channel, client.shell_channel):
                poller.register(channel.socket, zmq.POLLIN)
                channels[channel.socket] = place
        began = time.perf_counter()
        for place, (_, client) in enumerate(self.all):
            waiting[place] = (client.execute(code), set(_PARTS))
        done = 0
        while waiting:
            ready = poller.poll(int(1e3 * PATIENCE_SECONDS))
            if not ready:
                raise BenchError(f"{len(waiting)} kernels do not answer")
            for found, _ in ready:
                place = channels[found]
                client = self.all[place][1]
                while (message := client.session.recv(found, mode=zmq.NOBLOCK)[1]) is not None:
                    request, left = waiting.get(place, ("", set()))
                    if message["parent_header"].get("msg_id") != request:
                        continue
                    left.discard(_part(message, code, expected))
                    if left:
                        continue
                    del waiting[place]
                    # What was begun in time is waited for, and the time it takes counts.
                    done += 1
                    if time.perf_counter() - began < seconds:
                        waiting[place] = (client.execute(code), set(_PARTS))
        return done / (time.perf_counter() - began)


def _part(message: dict[str, object], code: str, expected: str) -> str:
    """Which of the three this is, each of which must come; what else comes is nothing."""
    content = message["content"]
    assert isinstance(content, dict)
    match message["msg_type"]:
        case "execute_result" if content["data"].get("text/plain") == expected:
            return "result"
        case "execute_reply" if content["status"] == "ok":
            return "reply"
        case "execute_result" | "execute_reply":
            raise BenchError(f"ipykernel answered {code!r} with {content}")
        case "status" if content["execution_state"] == "idle":
            return "idle"
    return ""


def open_in_cellblock(
    socket_path: Path,
    profile: str | None,
    names: list[str],
    code: str,
    expected: str,
    together: int = _TOGETHER,
) -> list[float]:
    """Opens notebooks; the seconds from the beginning of all to each one's result."""

    async def all_of_them() -> list[float]:
        async with await cellblock.AsyncClient.connect(socket_path, timeout=PATIENCE_SECONDS) as client:
            places = asyncio.Semaphore(together)
            began = time.perf_counter()

            async def one(name: str) -> float:
                async with places:
                    notebook = await client.open(name, profile)
                    await _run(notebook, code, expected)
                    return time.perf_counter() - began

            return await asyncio.gather(*map(one, names))

    return asyncio.run(all_of_them())


def cells_per_second_in_cellblock(
    socket_path: Path, names: list[str], code: str, expected: str, seconds: float
) -> float:
    """Every notebook runs the code again and again; its next run begins when the Outcome has come."""

    async def all_of_them() -> float:
        async with await cellblock.AsyncClient.connect(socket_path, timeout=PATIENCE_SECONDS) as client:
            began = time.perf_counter()

            async def one(name: str) -> int:
                notebook = await client.open(name)
                done = 0
                while time.perf_counter() - began < seconds:
                    await _run(notebook, code, expected)
                    done += 1
                return done

            counts = await asyncio.gather(*map(one, names))
            return sum(counts) / (time.perf_counter() - began)

    return asyncio.run(all_of_them())


async def _run(notebook: cellblock.AsyncNotebook, code: str, expected: str) -> None:
    execution = await notebook.execute(code, timeout=PATIENCE_SECONDS)
    results = [output.bundle.text() async for output in execution if isinstance(output, cellblock.Result)]
    outcome = execution.outcome
    if results != [expected] or outcome is None or not outcome.ok:
        raise BenchError(f"cellblock answered {code!r} with {results} and {outcome}")


def round_of(notebooks: list[cellblock.Notebook], code: str, expected: str) -> list[float]:
    """One run in each, one after another; milliseconds."""
    found = []
    for notebook in notebooks:
        began = time.perf_counter()
        run_in_cellblock(notebook, code, expected)
        found.append(1e3 * (time.perf_counter() - began))
    return found


def round_of_kernels(kernels: list[Kernel], code: str, expected: str) -> list[float]:
    """One run in each, one after another; milliseconds."""
    found = []
    for _, client in kernels:
        began = time.perf_counter()
        run_in_kernel(client, code, expected)
        found.append(1e3 * (time.perf_counter() - began))
    return found


def too_little_memory(more: int, each_bytes: float) -> str | None:
    """Why so many more of that size are not started, or None."""
    left = available_bytes() - more * each_bytes
    if left >= SPARE_BYTES:
        return None
    return f"{more} more of {each_bytes / 1e6:.0f} MB would leave the machine {max(0.0, left) / 1e9:.1f} GB"
