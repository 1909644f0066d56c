"""Checkpoints and events of both clients, against a daemon that says what the test wants."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cellblock
from cellblock import AsyncClient, CheckpointEvent, Client, EventsMissed
from cellblock._transfer import PART_BYTES, Part, parts_from, written_to

from .fake import FakeDaemon, Peer

CONTENT = bytes(range(256)) * (PART_BYTES // 128) + b"the end"
SAVED = {"saved": {"id": 3, "written_bytes": 5, "pause_us": 1500}}


class Store:
    """The daemon's side: exports `CONTENT`, keeps what is imported."""

    def __init__(self) -> None:
        self.imported = b""

    def __call__(self, peer: Peer, name: str, content: Any, payload: bytes) -> None:
        match name:
            case "checkpoint":
                peer.reply({"checkpoint": SAVED}, last=True)
            case "export_checkpoint" if content["checkpoint"] == 404:
                peer.refuse("checkpoint", "no checkpoint 404")
            case "export_checkpoint":
                for start in range(0, len(CONTENT), 300_000):
                    peer.reply("part", CONTENT[start : start + 300_000])
                    peer.reply("part", b"")
                if content["checkpoint"] == 13:
                    peer.refuse("checkpoint", "packs/3 is damaged")
                else:
                    peer.reply("done", last=True)
            case "import_checkpoint":
                assert content["offset"] == len(self.imported)
                assert len(payload) <= 1 << 20
                self.imported += payload
                peer.reply({"imported": {"checkpoint": 7}} if content["last"] else "done", last=True)
            case "fork":
                info = {"notebook": content["to"], "profile": "mine", "state": "none"}
                peer.reply({"notebook": {**info, "queued": 0, "executions": 0}}, last=True)
            case "events":
                peer.reply("listening")
                told = {"notebook": "n", "execution": "e", "checkpoint": SAVED}
                peer.reply({"event": {"checkpoint": told}})
                peer.reply({"event": {"missed": {"count": 2}}})
                if content["notebook"] == "short":
                    peer.hang_up()
            case _:
                peer.reply("done", last=True)


Files = Callable[[], list[str]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """What is left in the folder of the test."""
    return lambda: sorted(path.name for path in tmp_path.iterdir())


def test_an_export_is_one_whole_file_or_none(tmp_path: Path, files: Files) -> None:
    with FakeDaemon(Store()) as daemon, Client.connect(daemon.path) as client:
        notebook = client.open("n")
        (tmp_path / "old").write_text("old")
        for number, message in ((404, "no checkpoint 404"), (13, "packs/3 is damaged")):
            with pytest.raises(cellblock.CheckpointProblem, match=message):
                notebook.export_checkpoint(tmp_path / "old", number)
        assert ((tmp_path / "old").read_text(), files()) == ("old", ["old"])
        notebook.export_checkpoint(tmp_path / "old")
        notebook.export_checkpoint(str(tmp_path / "new"), 3)
        assert (tmp_path / "old").read_bytes() == (tmp_path / "new").read_bytes() == CONTENT
        buffer = io.BytesIO()
        notebook.export_checkpoint(buffer)
        assert buffer.getvalue() == CONTENT
        assert files() == ["new", "old"]
        # Refusals and ends leave the connection as good as before.
        assert {connection for connection, _, _ in daemon.requests} == {1}


def test_a_file_that_cannot_be_written_ends_the_export(files: Files) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    with FakeDaemon(Store()) as daemon, Client.connect(daemon.path) as client:
        with pytest.raises(OSError, match="No space left"):
            client.open("n").export_checkpoint(Full())
        # What had not been read goes with its connection.
        assert client.open("n").checkpoint().id == 3
        assert {connection for connection, _, _ in daemon.requests} == {1, 2}


def test_an_import_is_sent_in_parts(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    for source in (tmp_path / "file", io.BytesIO(CONTENT)):
        store = Store()
        with FakeDaemon(store) as daemon, Client.connect(daemon.path) as client:
            assert client.open("n").import_checkpoint(source) == 7
        assert store.imported == CONTENT


def test_the_last_part_is_known_as_such() -> None:
    def parts(content: bytes) -> list[tuple[int, int, bool]]:
        with parts_from(io.BytesIO(content)) as found:
            return [(part.offset, len(part.data), part.last) for part in found]

    assert parts(b"") == [(0, 0, True)]
    assert parts(bytes(PART_BYTES)) == [(0, PART_BYTES, True)]
    assert parts(bytes(PART_BYTES + 1)) == [(0, PART_BYTES, False), (PART_BYTES, 1, True)]

    class Pipe(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 1000))

    with parts_from(Pipe(bytes(PART_BYTES + 5))) as found:
        assert list(found) == [
            Part(0, bytes(PART_BYTES), last=False),
            Part(PART_BYTES, bytes(5), last=True),
        ]


def test_a_file_that_could_not_be_finished_leaves_nothing(tmp_path: Path, files: Files) -> None:
    class Full(Exception):
        pass

    def write() -> None:
        with written_to(tmp_path / "x") as file:
            file.write(b"half")
            raise Full

    with pytest.raises(Full):
        write()
    assert files() == []


def test_a_fork_is_a_notebook_with_the_same_profile() -> None:
    with FakeDaemon(Store()) as daemon, Client.connect(daemon.path) as client:
        forked = client.open("n").fork("what-if", 4)
        assert (forked.name, forked._profile) == ("what-if", "mine")
        assert daemon.requests[-1][1:] == ("fork", {"notebook": "n", "checkpoint": 4, "to": "what-if"})


def test_what_a_collection_is_not_told_limits_nothing() -> None:
    def kept(**rule: int) -> Any:
        call = cellblock._requests.collect_checkpoints(
            "n", rule.get("keep_last"), rule.get("keep_daily"), rule.get("max_bytes")
        )
        assert isinstance(call.meta, dict)
        message: Any = call.meta["collect_checkpoints"]
        return message["keep"]

    everything, boundless = (1 << 32) - 1, (1 << 63) - 1
    assert kept() is None
    assert kept(keep_last=0) == {"last": 0, "daily": 0, "max_bytes": boundless}
    assert kept(keep_daily=7) == {"last": 0, "daily": 7, "max_bytes": boundless}
    assert kept(max_bytes=5) == {"last": everything, "daily": 0, "max_bytes": 5}
    assert kept(keep_last=1 << 40, keep_daily=1) == {"last": everything, "daily": 1, "max_bytes": boundless}
    with pytest.raises(ValueError, match="keep_daily is -1"):
        kept(keep_daily=-1)


SEEN = [CheckpointEvent("n", "e", cellblock.Checkpoint("saved", 3, 5, 0.0015)), EventsMissed(2)]


def test_events_come_until_nobody_listens() -> None:
    with FakeDaemon(Store()) as daemon, Client.connect(daemon.path) as client:
        with client.events("n") as events:
            assert [next(events), next(events)] == SEEN
            with pytest.raises(cellblock.Timeout, match="no event came within"):
                events.wait(0.01)
        with pytest.raises(cellblock.CellblockError, match="nobody listens"):
            events.wait(1)
        with client.events("short") as ending:
            assert [ending.wait(10), ending.wait(10)] == SEEN
            with pytest.raises(cellblock.ConnectionLost):
                ending.wait(10)


def test_who_was_impatient_misses_nothing() -> None:
    gate = threading.Event()

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.reply("listening")
        assert gate.wait(10)
        peer.reply({"event": {"missed": {"count": 2}}})

    async def impatient(path: Path) -> None:
        async with await AsyncClient.connect(path) as client, await client.events() as events:
            with pytest.raises(cellblock.Timeout):
                await events.wait(0.01)
            gate.set()
            assert await events.wait(10) == EventsMissed(2)

    with FakeDaemon(handler) as daemon:
        with Client.connect(daemon.path) as client, client.events() as events:
            with pytest.raises(cellblock.Timeout):
                events.wait(0.01)
            gate.set()
            assert events.wait(10) == EventsMissed(2)
        gate.clear()
        asyncio.run(impatient(daemon.path))


def test_the_asynchronous_client_does_the_same(tmp_path: Path, files: Files) -> None:
    store = Store()

    async def work(path: Path) -> None:
        async with await AsyncClient.connect(path) as client:
            notebook = await client.open("n")
            assert (await notebook.checkpoint()).state == "saved"
            await notebook.export_checkpoint(tmp_path / "file")
            assert (tmp_path / "file").read_bytes() == CONTENT
            with pytest.raises(cellblock.CheckpointProblem):
                await notebook.export_checkpoint(tmp_path / "file", 13)
            assert await notebook.import_checkpoint(tmp_path / "file") == 7
            assert (await notebook.fork("what-if")).name == "what-if"
            await notebook.clear()
            async with await client.events() as events:
                assert [await anext(events), await anext(events)] == SEEN
                with pytest.raises(cellblock.Timeout):
                    await events.wait(0.01)
            async with await client.events("short") as ending:
                assert [await anext(ending), await anext(ending)] == SEEN
                with pytest.raises(cellblock.ConnectionLost):
                    await anext(ending)

    with FakeDaemon(store) as daemon:
        asyncio.run(work(daemon.path))
    assert (store.imported, files()) == (CONTENT, ["file"])


@pytest.mark.parametrize(
    "content",
    [
        {"saved": {"id": True, "written_bytes": 0, "pause_us": 0}},
        {"saved": {"id": 1}},
        {"lost": {}},
        {"partial": {"id": 1, "written_bytes": 0, "pause_us": 0, "left_out": [7], "left_out_count": 1}},
        None,
    ],
)
def test_what_is_no_checkpoint_is_a_protocol_error(content: object) -> None:
    with pytest.raises(cellblock.ProtocolError):
        cellblock._requests.checkpoint("n").parse("checkpoint", content, b"")
