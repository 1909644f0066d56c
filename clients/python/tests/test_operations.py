"""What operators ask for, against a daemon that says what the test wants; both clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import cellblock
from cellblock import AsyncClient, Client, Drained

from .fake import FakeDaemon, Peer

DAEMON = {
    "build": "1.0", "pid": 7, "uptime_ms": 1500, "draining": False, "workers": 2, "max_workers": 0,
    "running": 1, "max_running": 8, "waiting": 0, "notebooks": 3, "connections": 1, "memory_bytes": 10,
    "available_bytes": 20, "cpu_ms": None,
}  # fmt: skip
LIMITS = dict.fromkeys(("running", "workers", "notebooks", "queued", "connections", "buffered_bytes"), 0)
INFO = {"notebook": "n", "profile": "default", "state": "idle", "queued": 0, "executions": 4}
TENANT = {
    "tenant": "lab",
    "uids": [1, 2],
    "operator": False,
    "uses": {**LIMITS, "running": 1},
    "limits": LIMITS,
}
METRICS = "# TYPE cellblock_workers gauge\n"


def answer(peer: Peer, name: str, content: Any, payload: bytes) -> None:
    if name == "metrics":
        peer.reply("metrics", METRICS.encode(), last=True)
        return
    replies = {
        "overview": {"overview": {"daemon": DAEMON, "notebooks": [{**INFO, "pinned": True}]}},
        "tenants": {"tenants": {"tenants": [TENANT]}},
        "drain": {"drained": {"running": 1, "waiting": 2, "unsaved": 0}},
        "evict": "done",
    }
    if name == "pin":
        peer.reply({"notebook": {**INFO, "pinned": content["pinned"]}}, last=True)
    else:
        peer.reply(replies[name], last=True)


def check(
    metrics: str, overview: cellblock.Overview, tenants: tuple[cellblock.TenantInfo, ...], drained: Drained
) -> None:
    assert metrics == METRICS
    daemon = overview.daemon
    assert (daemon.uptime_seconds, daemon.workers, daemon.cpu_seconds) == (1.5, 2, None)
    assert [(info.name, info.pinned) for info in overview.notebooks] == [("n", True)]
    [tenant] = tenants
    assert (tenant.name, tenant.uids, tenant.uses.running, tenant.limits.running) == ("lab", (1, 2), 1, 0)
    assert drained == Drained(running=1, waiting=2, unsaved=0)


ASKED = [
    ("open_notebook", {"notebook": "n", "profile": None}),
    ("pin", {"notebook": "n", "pinned": True}),
    ("pin", {"notebook": "n", "pinned": False}),
    ("evict", {"notebook": "n"}),
    ("metrics", {}),
    ("overview", {}),
    ("tenants", {}),
    ("drain", {"seconds": 5}),
    ("drain", {"seconds": None}),
]


def test_what_operators_ask_is_sent_and_read() -> None:
    with FakeDaemon(answer) as daemon, Client.connect(daemon.path) as client:
        notebook = client.open("n")
        assert notebook.pin().pinned
        assert not notebook.unpin().pinned
        notebook.evict()
        check(client.metrics(), client.overview(), client.tenants(), client.drain(5))
        client.drain()
        assert [(name, content) for _, name, content in daemon.requests] == ASKED


def test_the_asyncio_client_sends_and_reads_the_same() -> None:
    async def run(daemon: FakeDaemon) -> None:
        async with await AsyncClient.connect(daemon.path) as client:
            notebook = await client.open("n")
            assert (await notebook.pin()).pinned
            assert not (await notebook.unpin()).pinned
            await notebook.evict()
            metrics, overview = await client.metrics(), await client.overview()
            check(metrics, overview, await client.tenants(), await client.drain(5))
            await client.drain()
            assert [(name, content) for _, name, content in daemon.requests] == ASKED

    with FakeDaemon(answer) as daemon:
        asyncio.run(run(daemon))


def test_a_worker_that_stays_is_busy() -> None:
    def refuse(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.refuse("busy", "the worker was not evicted: something is to be run")

    with FakeDaemon(refuse) as daemon, Client.connect(daemon.path) as client:
        with pytest.raises(cellblock.Busy, match="something is to be run"):
            client.open("n").evict()
