"""Many callers at once, callers that give up, and an event loop that is never held up."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cellblock import AsyncExecutionService, ExecutionResult, ExecutionService
from cellblock._service.assembly import Assembly

from .fake import FakeDaemon, Peer
from .service_worker import arguments, executes, worker


def test_many_threads_share_a_service() -> None:
    with FakeDaemon(worker) as daemon, ExecutionService(daemon.path) as service:
        wrong: list[str] = []

        def work(number: int) -> None:
            for turn in range(20):
                code = f"{number}.{turn}"
                if service.execute_code(code, "c", f"n{number % 2}").stdout != code:
                    wrong.append(code)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        cells = sorted((asked["notebook"], arguments(asked)["cell"]) for asked in executes(daemon))
        assert cells == [(name, number) for name in ("n0", "n1") for number in range(1, 81)]


class Endless:
    """A cell that runs until it is cancelled."""

    def __init__(self, on_start: Callable[[], object] = lambda: None) -> None:
        self._on_start = on_start
        self.cancelled = threading.Event()

    def __call__(self, peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if name == "cancel":
            peer.reply("done", last=True)
            self.cancelled.set()
        else:
            peer.accept(content["execution"])
            self._on_start()


def test_an_interrupt_of_the_calling_thread_ends_the_cell() -> None:
    caller = threading.get_ident()
    endless = Endless(lambda: signal.pthread_kill(caller, signal.SIGINT))
    with FakeDaemon(endless) as daemon, ExecutionService(daemon.path) as service:
        with pytest.raises(KeyboardInterrupt):
            service.execute_code("while True: pass", "c", "n")
        assert endless.cancelled.wait(10)


def test_cancelling_the_task_ends_the_cell() -> None:
    async def main(daemon: FakeDaemon, started: asyncio.Event) -> None:
        async with AsyncExecutionService(daemon.path) as service:
            task = asyncio.create_task(service.execute_code("while True: pass", "c", "n"))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    loop = asyncio.new_event_loop()
    started = asyncio.Event()
    endless = Endless(lambda: loop.call_soon_threadsafe(started.set))
    with FakeDaemon(endless) as daemon:
        loop.run_until_complete(main(daemon, started))
        assert endless.cancelled.is_set()
    loop.close()


def test_cells_of_other_notebooks_run_while_one_is_waited_for() -> None:
    first_may_end = threading.Event()

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if content["notebook"] == "slow":
            assert first_may_end.wait(10), "the loop was held up"
        worker(peer, name, content, payload)
        first_may_end.set()

    async def main(daemon: FakeDaemon) -> list[ExecutionResult]:
        async with AsyncExecutionService(daemon.path) as service:
            calls = [service.execute_code(name, "c", name) for name in ("slow", "quick")]
            return await asyncio.gather(*calls)

    with FakeDaemon(handler) as daemon:
        assert [result.stdout for result in asyncio.run(main(daemon))] == ["slow", "quick"]


def test_a_large_result_is_put_together_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    where: list[bool] = []
    result_of = Assembly.result

    def observed(self: Assembly, *args: Any) -> ExecutionResult:
        where.append(threading.current_thread() is threading.main_thread())
        return result_of(self, *args)

    monkeypatch.setattr(Assembly, "result", observed)

    async def main(daemon: FakeDaemon) -> None:
        async with AsyncExecutionService(daemon.path) as service:
            for code in ("1", "#" * 1_000_000):
                await service.execute_code(code, "c", "n")

    with FakeDaemon(worker) as daemon:
        asyncio.run(main(daemon))
    assert where == [True, False]
