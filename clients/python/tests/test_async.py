"""The asyncio client against a daemon that says what the test wants."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

import cellblock
from cellblock import AsyncClient, Stream

from .fake import FakeDaemon, Handler, Peer, output

T = TypeVar("T")


def run(handler: Handler, work: Callable[[AsyncClient], Awaitable[T]], **options: Any) -> T:
    """Does the work with a client of a daemon with this handler."""

    async def main(daemon: FakeDaemon) -> T:
        async with await AsyncClient.connect(daemon.path, **options) as client:
            return await work(client)

    with FakeDaemon(handler) as daemon:
        return asyncio.run(main(daemon), debug=True)


def echo(peer: Peer, name: str, content: Any, payload: bytes) -> None:
    if name != "execute":
        peer.reply("done", last=True)
        return
    execution, lines = content["execution"], payload.decode().splitlines()
    peer.accept(execution)
    for seq, line in enumerate(lines):
        peer.text(execution, seq, line)
    peer.end(execution, len(lines))


def test_outputs_come_while_the_code_runs() -> None:
    seen = threading.Event()

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.accept("e")
        peer.text("e", 0, "first")
        assert seen.wait(10), "the first output was held back"
        peer.text("e", 1, "second")
        peer.end("e", 2)

    async def work(client: AsyncClient) -> list[str]:
        texts = []
        async for piece in await (await client.open("n")).execute("…", execution_id="e"):
            assert isinstance(piece, Stream)
            texts.append(piece.text)
            seen.set()
        return texts

    assert run(handler, work) == ["first", "second"]


def test_many_tasks_share_a_client() -> None:
    async def one(client: AsyncClient, number: int) -> str:
        notebook = await client.open(f"n{number}")
        results = [await (await notebook.execute(f"{number}.{turn}")).result() for turn in range(10)]
        return " ".join(result.stdout for result in results)

    async def work(client: AsyncClient) -> list[str]:
        return await asyncio.gather(*(one(client, number) for number in range(20)))

    expected = [" ".join(f"{number}.{turn}" for turn in range(10)) for number in range(20)]
    assert run(echo, work) == expected


def test_timeout_ends_the_waiting_and_loses_nothing() -> None:
    resume = threading.Event()

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.accept("e")
        whole = peer.frame(output("e", 0), b"whole")
        peer.send(whole[:20])
        resume.wait(10)
        peer.send(whole[20:])
        peer.end("e", 1)

    async def work(client: AsyncClient) -> str:
        execution = await (await client.open("n")).execute("…", execution_id="e")
        with pytest.raises(cellblock.Timeout, match=r"`e` goes on: it has not ended within 0.05 s"):
            await execution.result(timeout=0.05)
        resume.set()
        return (await execution.result(timeout=10)).stdout

    assert run(handler, work) == "whole"


def test_timeout_of_what_was_never_accepted_says_so_and_why() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.refuse("shutting_down", "cellblockd is being drained")

    async def work(client: AsyncClient) -> str:
        # The time may be over while the last refusal is still waited for: its connection is open then.
        async with await (await client.open("n")).execute("…", execution_id="e") as execution:
            with pytest.raises(cellblock.Timeout) as raised:
                await execution.wait(timeout=0.5)
        return str(raised.value)

    said = "Execution `e` was not accepted yet (cellblockd is being drained): it has not ended within 0.5 s"
    assert run(handler, work) == said


def test_cancelling_the_task_loses_nothing() -> None:
    resume = threading.Event()

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.accept("e")
        resume.wait(10)
        peer.text("e", 0, "later")
        peer.end("e", 1)

    async def work(client: AsyncClient) -> str:
        execution = await (await client.open("n")).execute("…", execution_id="e")
        await execution.wait_accepted()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(execution.wait(), 0.05)
        resume.set()
        return (await execution.result(timeout=10)).stdout

    assert run(handler, work) == "later"


def test_timeout_of_a_request() -> None:
    def silent(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        pass

    async def work(client: AsyncClient) -> None:
        notebook = await client.open("n", timeout=10)
        with pytest.raises(cellblock.Timeout, match=r"`interrupt` was not answered within 0.5 s"):
            await notebook.interrupt()

    run(silent, work, timeout=0.5)


def test_a_refusal_is_its_exception_and_the_connection_lives() -> None:
    def refuse(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.refuse("unknown_notebook", "notebook `n` is not open")

    async def work(client: AsyncClient) -> None:
        notebook = await client.open("n")
        with pytest.raises(cellblock.UnknownNotebook, match="not open"):
            await notebook.variables()
        with pytest.raises(cellblock.UnknownNotebook, match="not open"):
            await (await notebook.execute("…")).wait()
        await client.open("n")

    run(refuse, work)


def test_input_is_answered_by_the_callback() -> None:
    answered = threading.Event()

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if name == "input":
            assert content["value"] == "blue"
            peer.reply("done", last=True)
            answered.set()
            return
        peer.accept("e")
        peer.reply(output("e", 0, {"input_request": {"prompt": "Colour: ", "password": False}}))
        assert answered.wait(10)
        peer.end("e", 1)

    async def on_input(request: cellblock.InputRequest) -> str:
        await asyncio.sleep(0)
        return "blue"

    async def work(client: AsyncClient) -> bool:
        execution = await (await client.open("n")).execute("…", execution_id="e", on_input=on_input)
        return (await execution.wait(timeout=10)).ok

    assert run(handler, work)


def test_no_daemon_and_a_gap() -> None:
    with pytest.raises(cellblock.SupervisorNotRunning):
        asyncio.run(AsyncClient.connect("/tmp/no-such-cellblockd"))

    def gap(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.accept("e")
        peer.text("e", 1, "x")

    async def work(client: AsyncClient) -> None:
        with pytest.raises(cellblock.ProtocolError, match="0 is missing"):
            await (await (await client.open("n")).execute("…", execution_id="e")).wait()

    run(gap, work)


def test_both_clients_have_the_same_methods() -> None:
    for blocking, asynchronous in (
        (cellblock.Client, cellblock.AsyncClient),
        (cellblock.Notebook, cellblock.AsyncNotebook),
        (cellblock.Execution, cellblock.AsyncExecution),
    ):
        names = [
            {name for name in vars(kind) if not name.startswith("_")} for kind in (blocking, asynchronous)
        ]
        assert names[0] == names[1]
