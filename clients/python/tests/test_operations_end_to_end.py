"""Pins, evictions, drains and figures with the real cellblockd; and code whose reader has gone."""

from __future__ import annotations

import asyncio
import os
import uuid

import pytest

import cellblock
from cellblock import AsyncClient, Client, LocalSupervisor, Notebook, NotebookEvent

SECONDS = 60.0
"""More than any of these takes on a slow machine, less than a person waits."""


def test_an_evicted_worker_comes_back_with_its_variables(notebook: Notebook) -> None:
    assert not notebook.status().info.evicted
    first = notebook.execute("x = 42").result(timeout=SECONDS).raise_for_error().outcome
    assert first.worker_seconds is not None
    assert notebook.execute("").wait(timeout=SECONDS).worker_seconds is None
    notebook.evict(timeout=SECONDS)
    info = notebook.status().info
    assert (info.state, info.evicted) == ("none", True)
    result = notebook.execute("print(x)").result(timeout=SECONDS)
    assert result.stdout == "42\n"
    assert result.outcome.worker_seconds is not None
    # There is nothing to be evicted twice.
    notebook.evict(timeout=SECONDS)
    notebook.evict(timeout=SECONDS)


def test_a_worker_that_runs_something_is_not_evicted(notebook: Notebook) -> None:
    execution = notebook.execute("print('on', flush=True)\nwhile True: pass", timeout=SECONDS)
    next(execution)
    with pytest.raises(cellblock.Busy, match="something to do"):
        notebook.evict(timeout=SECONDS)
    notebook.interrupt()
    assert execution.wait().kind == "interrupted"


def test_a_pin_is_seen_until_it_is_taken_away(client: Client, notebook: Notebook) -> None:
    assert notebook.pin().pinned
    assert notebook.status().info.pinned
    [info] = [info for info in client.overview().notebooks if info.name == notebook.name]
    assert info.pinned
    assert not notebook.unpin().pinned


def test_operators_see_figures_and_tenants(client: Client, notebook: Notebook) -> None:
    notebook.execute("1").wait(timeout=SECONDS)
    assert "cellblock_executions_total" in client.metrics()
    assert client.overview().daemon.workers >= 1
    [tenant] = [tenant for tenant in client.tenants() if tenant.operator]
    assert tenant.uses.notebooks >= 1


def test_code_whose_reader_goes_away_is_interrupted_where_it_was_asked_for(
    client: Client, notebook: Notebook
) -> None:
    events = client.events(notebook.name, timeout=SECONDS)
    code = "x = 1\nprint('on', flush=True)\nwhile True: pass"
    # The wall time ends it, and what is waited for, where nobody interrupts it.
    with notebook.execute(
        code, on_disconnect="interrupt", wall_seconds=SECONDS / 2, timeout=SECONDS
    ) as execution:
        next(execution)
    ended = first_end(events)
    assert (ended.execution, ended.detail) == (execution.id, "interrupted")
    # Who comes later reads how it ended; the variables are there.
    assert notebook.attach(execution.id).wait(timeout=SECONDS).kind == "interrupted"
    assert notebook.execute("print(x)").result(timeout=SECONDS).stdout == "1\n"


def first_end(events: cellblock.Events) -> NotebookEvent:
    with events:
        return next(event for event in events if isinstance(event, NotebookEvent) and event.kind == "ended")


def test_the_asyncio_client_evicts_and_pins(supervisor: LocalSupervisor) -> None:
    async def work() -> None:
        async with await AsyncClient.connect(supervisor.socket_path, timeout=SECONDS) as client:
            notebook = await client.open(f"t-{uuid.uuid4().hex}")
            assert (await notebook.pin()).pinned
            await (await notebook.execute("x = 1")).wait(SECONDS)
            await notebook.evict(timeout=SECONDS)
            assert (await notebook.status()).info.evicted
            assert "cellblock_evictions_total" in await client.metrics()
            assert (await client.overview()).daemon.pid == supervisor.pid
            assert [tenant.operator for tenant in await client.tenants()] == [True]
            await notebook.delete()

    asyncio.run(work())


def test_a_drained_cellblockd_says_what_is_left(supervisor: LocalSupervisor) -> None:
    # One of its own: it ends.
    with (
        LocalSupervisor(python=os.environ["CELLBLOCK_TEST_PYTHON"]) as own,
        own.client(timeout=SECONDS) as client,
    ):
        notebook = client.open("n")
        with notebook.execute("print('on', flush=True)\nwhile True: pass", timeout=SECONDS) as execution:
            next(execution)
            assert client.drain(0) == cellblock.Drained(running=1, waiting=0, unsaved=0)
