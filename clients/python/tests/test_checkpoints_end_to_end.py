"""Checkpoints of the real cellblockd and real workers."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

import cellblock
from cellblock import AsyncClient, CheckpointEvent, Client, LocalSupervisor, Notebook, NotebookEvent

LOCK = ("lk", "_thread.lock", "a lock")
SECONDS = 60.0


def prints(notebook: Notebook, code: str) -> str:
    return notebook.execute(f"print({code})").result(SECONDS).raise_for_error().stdout.strip()


def runs(notebook: Notebook, code: str, checkpoint: cellblock._requests.Checkpointing = "wait") -> int:
    """Runs it and returns the number of the checkpoint after it."""
    outcome = notebook.execute(code, checkpoint=checkpoint).result(SECONDS).raise_for_error().outcome
    assert outcome.checkpoint is not None
    assert outcome.checkpoint.id is not None, outcome.checkpoint
    return outcome.checkpoint.id


def test_a_pending_checkpoint_is_told_as_an_event_with_what_is_left_out(
    client: Client, notebook: Notebook
) -> None:
    with client.events(notebook.name) as events, client.events(all_tenants=True) as all_events:
        code = "import threading; x = 1; lk = threading.Lock()"
        outcome = notebook.execute(code, checkpoint="background").result(SECONDS).outcome
        assert outcome.checkpoint is not None
        assert outcome.checkpoint.state == "pending"
        while not isinstance(event := events.wait(SECONDS), CheckpointEvent):
            assert isinstance(event, NotebookEvent)
        assert (event.notebook, event.checkpoint.state) == (notebook.name, "partial")
        told: list[tuple[str, str | None]] = []
        while ("ended", "ok") not in told:
            other = all_events.wait(SECONDS)
            assert isinstance(other, NotebookEvent | CheckpointEvent)
            if isinstance(other, NotebookEvent) and other.notebook == notebook.name:
                told.append((other.kind, other.detail))
        kinds = [kind for kind, _ in told]
        assert kinds.index("worker") < kinds.index("started") < kinds.index("ended"), told
        [left_out] = event.checkpoint.left_out
        assert (left_out.path, left_out.kind, left_out.reason) == LOCK
    assert event.checkpoint.id is not None
    content = notebook.checkpoint_content(event.checkpoint.id)
    assert content == notebook.checkpoint_content()
    assert (content.info.current, content.info.execution) == (True, event.execution_id)
    assert {name.name for name in content.names} == {"threading", "x"}
    assert content.left_out == event.checkpoint.left_out


def test_any_kept_state_can_be_had_back(notebook: Notebook) -> None:
    first, second = runs(notebook, "x = [1]"), runs(notebook, "x.append(2)")
    assert notebook.restore(first).checkpoint == first
    assert prints(notebook, "x") == "[1]"
    assert [name.name for name in notebook.restore(second).names] == ["x"]
    assert prints(notebook, "x") == "[1, 2]"
    with pytest.raises(cellblock.CheckpointProblem, match="there is no checkpoint 999"):
        notebook.restore(999)
    assert prints(notebook, "x") == "[1, 2]"


def test_a_failing_cell_that_is_transactional_leaves_nothing(notebook: Notebook) -> None:
    runs(notebook, "x = [1]")
    failed = notebook.execute("x.append(2)\ny = 1\n1 / 0", transactional=True).result(SECONDS)
    assert (failed.outcome.kind, failed.outcome.variables, failed.outcome.lost) == (
        "error",
        "rolled_back",
        None,
    )
    assert prints(notebook, "x, 'y' in globals()") == "[1] False"
    done = notebook.execute("x.append(2)", transactional=True).result(SECONDS)
    assert done.outcome.variables == "kept"
    assert prints(notebook, "x") == "[1, 2]"


def test_a_fork_goes_its_own_way(client: Client, notebook: Notebook) -> None:
    first = runs(notebook, "x = 1")
    runs(notebook, "x = 2")
    forked = notebook.fork(f"f-{uuid.uuid4().hex}", first)
    try:
        assert prints(forked, "x") == "1"
        runs(forked, "x = 3")
        assert prints(notebook, "x") == "2"
        with pytest.raises(cellblock.BadRequest, match="there is a notebook"):
            notebook.fork(forked.name)
    finally:
        forked.delete()


def test_an_exported_checkpoint_is_imported_elsewhere(
    client: Client, notebook: Notebook, tmp_path: Path
) -> None:
    # Random, so that it takes more parts than one.
    number = runs(notebook, "import random; x = random.randbytes(5_000_000); y = hash(x)")
    notebook.export_checkpoint(tmp_path / "file")
    other = client.open(f"o-{uuid.uuid4().hex}")
    try:
        assert other.import_checkpoint(tmp_path / "file") == 1
        [info] = other.checkpoints()
        assert (info.current, info.origin) == (True, (notebook.name, number))
        assert prints(other, "len(x)") == "5000000"
        # Where there is one it is for `restore`.
        again = other.import_checkpoint(tmp_path / "file")
        assert [info.id for info in other.checkpoints() if info.current] != [again]
        whole = (tmp_path / "file").read_bytes()
        for damaged in (whole[:-1], whole[:100] + b"\0" + whole[101:], b""):
            (tmp_path / "damaged").write_bytes(damaged)
            with pytest.raises(cellblock.CheckpointProblem):
                other.import_checkpoint(tmp_path / "damaged")
    finally:
        other.delete()


def test_checkpoints_are_verified_collected_and_cleared(notebook: Notebook) -> None:
    numbers = [runs(notebook, f"x = {number}") for number in range(4)]
    assert [verified.id for verified in notebook.verify_checkpoints() if verified.ok] == numbers
    assert [verified.id for verified in notebook.verify_checkpoints(numbers[0])] == numbers[:1]
    collected = notebook.collect_checkpoints(keep_last=2)
    assert (collected.removed, collected.freed_bytes > 0) == (tuple(numbers[:2]), True)
    kept = notebook.checkpoints()
    assert ([info.id for info in kept], kept.used_bytes) == (numbers[2:], collected.used_bytes)
    notebook.clear()
    assert len(notebook.checkpoints()) == 0
    assert prints(notebook, "'x' in globals()") == "False"


def test_asked_for_it_saves_what_cells_did_not(notebook: Notebook) -> None:
    runs(notebook, "x = 1")
    notebook.execute("x = 2", checkpoint="none").result(SECONDS)
    assert notebook.checkpoint().is_saved
    notebook.restore()
    assert prints(notebook, "x") == "2"


def test_a_closed_notebook_begins_where_it_was_and_a_restarted_one_anew(
    client: Client, notebook: Notebook
) -> None:
    number = runs(notebook, "x = 1")
    notebook.close()
    assert prints(client.open(notebook.name), "x") == "1"
    notebook.restart()
    assert prints(notebook, "'x' in globals()") == "False"
    notebook.restore(number)
    assert prints(notebook, "x") == "1"


def test_the_asynchronous_client_saves_and_restores(supervisor: LocalSupervisor, tmp_path: Path) -> None:
    async def work() -> None:
        async with await AsyncClient.connect(supervisor.socket_path, timeout=SECONDS) as client:
            notebook = await client.open(f"a-{uuid.uuid4().hex}")
            async with await client.events(notebook.name) as events:
                execution = await notebook.execute("x = 1", checkpoint="background")
                await execution.wait(SECONDS)
                event = await events.wait(SECONDS)
                while not isinstance(event, CheckpointEvent):
                    event = await events.wait(SECONDS)
            assert event.checkpoint.is_saved
            await (await notebook.execute("x = 2", checkpoint="wait")).wait(SECONDS)
            assert (await notebook.restore(event.checkpoint.id)).checkpoint == event.checkpoint.id
            await notebook.export_checkpoint(tmp_path / "file")
            assert await notebook.import_checkpoint(tmp_path / "file") > 2
            assert all(verified.ok for verified in await notebook.verify_checkpoints())
            await notebook.collect_checkpoints(max_bytes=1)
            assert await notebook.get("x") == 1
            await notebook.delete()

    asyncio.run(work())
