"""A daemon that dies under an Execution: what has been read stays read, the rest comes once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import cellblock
from cellblock import AsyncClient, Client, Stream

from .fake import FakeDaemon, Peer, output

TEXTS = [f"line {number}" for number in range(10)]


class Shim:
    """Holds one Execution over the deaths of the daemon, as the real one does."""

    def __init__(self, tear: Callable[[Peer, int], bool]) -> None:
        self._tear = tear
        """Called with (connection, seq) before each output; True ends the connection there."""
        self.runs = 0

    def __call__(self, peer: Peer, name: str, content: Any, payload: bytes) -> None:
        execution = content["execution"]
        if name == "execute":
            self.runs += 1
        peer.accept(execution)
        for seq in range(content.get("from_seq", 0), len(TEXTS)):
            if self._tear(peer, seq):
                # Half a frame at the end does not count.
                peer.send(peer.frame(output(execution, seq), TEXTS[seq].encode())[:-3])
                peer.hang_up()
                return
            peer.text(execution, seq, TEXTS[seq])
        peer.end(execution, len(TEXTS))


def tear_first_at(at: int) -> Callable[[Peer, int], bool]:
    return lambda peer, seq: peer.number == 1 and seq == at


def texts(outputs: list[cellblock.Output]) -> list[str]:
    return [output.text for output in outputs if isinstance(output, Stream)]


@pytest.mark.parametrize("at", range(len(TEXTS)))
def test_it_gets_back_by_itself_and_reads_the_rest_once(at: int) -> None:
    shim = Shim(tear_first_at(at))
    with FakeDaemon(shim) as daemon, Client.connect(daemon.path) as client:
        result = client.open("n").execute("…", execution_id="e").result(timeout=10)
        assert texts(result.outputs) == TEXTS
        assert shim.runs == 1
        attach = {"notebook": "n", "execution": "e", "from_seq": at}
        assert [content for _, name, content in daemon.requests if name == "attach"] == [attach]


def test_it_gets_back_however_often_the_connection_ends() -> None:
    shim = Shim(lambda peer, seq: seq == peer.number)
    with FakeDaemon(shim) as daemon, Client.connect(daemon.path) as client:
        assert texts(client.open("n").execute("…").result(timeout=10).outputs) == TEXTS


def test_it_waits_for_a_daemon_that_is_started_again() -> None:
    shim = Shim(tear_first_at(4))
    with FakeDaemon(shim) as daemon, Client.connect(daemon.path) as client:
        execution = client.open("n").execute("…")
        first = [next(execution) for _ in range(4)]
        daemon.stop()
        later = threading.Timer(0.1, daemon.start)
        later.start()
        rest = list(execution)
        later.join()
        assert texts(first + rest) == TEXTS


def test_without_patience_the_error_says_how_to_go_on() -> None:
    shim = Shim(tear_first_at(4))
    with FakeDaemon(shim) as daemon, Client.connect(daemon.path, reconnect_seconds=0) as client:
        notebook = client.open("n")
        execution = notebook.execute("…", execution_id="e")
        got: list[cellblock.Output] = []
        with pytest.raises(cellblock.ConnectionLost, match=r"attach\('e', from_seq=4\)") as lost:
            got.extend(execution)
        assert "in the middle of a frame" in str(lost.value)
        assert (lost.value.execution_id, lost.value.next_seq) == ("e", 4)
        # Both ways that it names.
        rest = list(notebook.attach("e", from_seq=4))
        execution.reattach()
        assert list(execution) == rest
        assert [output.seq for output in rest] == list(range(4, 10))


def test_patience_ends() -> None:
    with FakeDaemon(Shim(tear_first_at(4))) as daemon, Client.connect(daemon.path) as client:
        execution = client.open("n").execute("…", reconnect_seconds=0.05)
        next(execution)
        daemon.stop()
        with pytest.raises(cellblock.ConnectionLost, match="no cellblockd listens"):
            execution.wait()


def test_what_was_never_accepted_is_sent_again_after_its_notebook() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if peer.number == 1:
            peer.hang_up()
            return
        assert payload == b"code"
        peer.accept(content["execution"])
        peer.end(content["execution"], 0)

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        assert client.open("n").execute("code", execution_id="e").wait(timeout=10).ok
        asked = [(connection, name) for connection, name, _ in daemon.requests]
        assert asked == [(1, "open_notebook"), (1, "execute"), (2, "open_notebook"), (2, "execute")]
        assert daemon.requests[1][2] == daemon.requests[3][2]


def test_a_daemon_going_down_is_waited_for() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if peer.number < 3:
            peer.refuse("shutting_down")
            return
        peer.accept(content["execution"])
        peer.end(content["execution"], 0)

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        assert client.open("n").execute("…").wait(timeout=10).ok


def test_a_daemon_going_down_is_told_without_patience() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.refuse("shutting_down")

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path, reconnect_seconds=0) as client:
        with pytest.raises(cellblock.ShuttingDown):
            client.open("n").execute("…").wait()


def test_an_execution_that_is_forgotten_is_unknown() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if name == "attach":
            peer.refuse("unknown_execution", "Execution `e` is not known any more")
            return
        peer.accept("e")
        peer.hang_up()

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        with pytest.raises(cellblock.UnknownExecution, match="not known any more"):
            client.open("n").execute("…", execution_id="e").wait(timeout=10)


def test_a_repeated_output_after_reattaching_is_a_protocol_error() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.accept("e")
        for seq in range(3):  # An attach that forgets from where.
            peer.text("e", seq, "x")
        peer.hang_up()

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        with pytest.raises(cellblock.ProtocolError, match="output 0 of Execution `e` was seen already"):
            client.open("n").execute("…", execution_id="e").wait(timeout=10)


def test_idle_connections_that_died_are_not_used() -> None:
    with FakeDaemon(Shim(lambda peer, seq: False)) as daemon, Client.connect(daemon.path) as client:
        notebook = client.open("n")
        assert notebook.execute("…").wait().ok
        daemon.stop()
        daemon.start()
        assert notebook.execute("…", reconnect_seconds=0).wait().ok
        daemon.stop()
        daemon.start()
        client.open("n")


@pytest.mark.parametrize("at", range(len(TEXTS)))
def test_async_gets_back_by_itself_and_reads_the_rest_once(at: int) -> None:
    async def run(daemon: FakeDaemon) -> list[cellblock.Output]:
        async with await AsyncClient.connect(daemon.path) as client:
            notebook = await client.open("n")
            return (await (await notebook.execute("…")).result(timeout=10)).outputs

    shim = Shim(tear_first_at(at))
    with FakeDaemon(shim) as daemon:
        assert texts(asyncio.run(run(daemon))) == TEXTS
        assert shim.runs == 1


def test_async_without_patience_the_error_says_how_to_go_on() -> None:
    async def run(daemon: FakeDaemon) -> list[cellblock.Output]:
        async with await AsyncClient.connect(daemon.path, reconnect_seconds=0) as client:
            execution = await (await client.open("n")).execute("…", execution_id="e")
            got: list[cellblock.Output] = []
            for _ in range(4):
                got.append(await anext(execution))
            with pytest.raises(cellblock.ConnectionLost, match=r"attach\('e', from_seq=4\)"):
                await anext(execution)
            await execution.reattach()
            return got + [output async for output in execution]

    with FakeDaemon(Shim(tear_first_at(4))) as daemon:
        assert texts(asyncio.run(run(daemon))) == TEXTS
