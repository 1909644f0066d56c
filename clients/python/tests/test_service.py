"""Both kinds of service against a daemon that says what a test wants: what they ask, and when."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import cellblock
from cellblock import AsyncClient, AsyncExecutionService, Client, ExecutionService
from cellblock._service.ids import safe_id, seed_of
from cellblock._service.tasks import ANSWER

from .fake import FakeDaemon, Peer, outcome, output
from .service_worker import CATEGORIES, arguments, display, executes, names, worker

Make = Callable[..., Any]
NOTICE = {"topic": "variables_lost", "text": "the worker died", "names": ["x"]}


class Awaited:
    """An `AsyncExecutionService` whose calls block, so that one test can be for both kinds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._service = AsyncExecutionService(*args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._service, name)
        return lambda *args, **kwargs: self._loop.run_until_complete(method(*args, **kwargs))

    def end(self) -> None:
        """Closes everything."""
        self.close()
        self._loop.close()


@pytest.fixture(params=["blocking", "asynchronous"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes services of either kind, and ends them."""
    ends: list[Callable[[], None]] = []

    def made(*args: Any, **kwargs: Any) -> Any:
        if request.param == "blocking":
            service: Any = ExecutionService(*args, **kwargs)
            ends.append(service.close)
        else:
            service = Awaited(*args, **kwargs)
            ends.append(service.end)
        return service

    yield made
    for end in ends:
        end()


def answering(answer: Any = None, end: object = "ok") -> Callable[[Peer, str, Any, bytes], None]:
    """A worker that answers everything with this."""

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.accept(content["execution"])
        outputs = 0
        if answer is not None:
            display(peer, content["execution"], 0, ANSWER, answer)
            outputs = 1
        peer.end(content["execution"], outputs, end)

    return handler


def test_a_cell_is_asked_for_with_all_that_the_plug_in_needs(make: Make) -> None:
    with FakeDaemon(worker) as daemon:
        service = make(daemon.path, profile="strict", wall_seconds=2.5)
        result = service.execute_code("x = 1", "cell one", "analysis", autofix=False, capture_outputs=False)
        assert result.stdout == "x = 1"
        assert result.limits["wall_seconds"] == 2.5
        assert 0 < result.execution_time < 10
        assert daemon.requests[0][1:] == ("open_notebook", {"notebook": "analysis", "profile": "strict"})
        [asked] = executes(daemon)
        assert arguments(asked) == {
            "do": "run",
            "notebook": "analysis",
            "seed": seed_of("analysis"),
            "cell": 1,
            "autofix": False,
            "capture": False,
        }
        options = asked["options"]
        assert (options["echo"], options["store_history"], options["stop_on_error"]) == ("none", False, False)
        assert (options["wall_ms"], options["allow_stdin"], options["silent"]) == (2500, False, False)
        assert options["cell"] == safe_id("cell one") != "cell one"
        assert asked["execution"].startswith("cell-1-")


def test_the_seed_of_a_notebook_is_the_old_services() -> None:
    assert seed_of("default") == int("c21f969b", 16) % 2**31


def test_cells_are_counted_by_notebook(make: Make) -> None:
    with FakeDaemon(worker) as daemon:
        service = make(daemon.path)
        for notebook in ("a", "a", "b", "a"):
            service.execute_code("1", "c", notebook)
        assert [arguments(asked)["cell"] for asked in executes(daemon)] == [1, 2, 1, 3]
        assert names(daemon).count("open_notebook") == 2


def test_without_a_notebook_it_is_default_and_one_warning(make: Make) -> None:
    with FakeDaemon(worker) as daemon:
        service = make(daemon.path)
        with pytest.warns(UserWarning, match="without a notebook_id it is `default`"):
            service.execute_code("1", "c")
        service.get_variable_info(None)
        assert {asked["notebook"] for asked in executes(daemon)} == {"default"}


@pytest.mark.parametrize("text", ["", "../..", "a b", "ä", "x" * 65, "a/b", "a\n", "\ud800", "sha256-abc"])
def test_any_text_is_an_id(make: Make, text: str) -> None:
    with FakeDaemon(worker) as daemon:
        assert make(daemon.path).execute_code("1", text, text).stdout == "1"
        [asked] = executes(daemon)
        assert asked["notebook"] == asked["options"]["cell"] == safe_id(text)
        assert arguments(asked)["notebook"] == text


def test_ids_are_told_apart_and_legal_ones_kept() -> None:
    texts = [
        "",
        "a",
        "A",
        "a b",
        "a  b",
        "ä",
        "a\u0308",
        "x" * 64,
        "x" * 65,
        "x" * 66,
        "a/b",
        "\ud800",
        "\udc00",
    ]
    texts += [safe_id(text) for text in texts if safe_id(text) != text]
    assert len({safe_id(text) for text in texts}) == len(texts)
    for text in texts:
        assert 1 <= len(safe_id(text)) <= 64
        assert safe_id(text).replace("-", "").replace("_", "").isalnum()
        assert safe_id(text).isascii()
    assert [safe_id(text) for text in ("a", "A-b_9", "x" * 64)] == ["a", "A-b_9", "x" * 64]


def test_a_seed_is_set_at_once_and_for_every_later_worker(make: Make) -> None:
    with FakeDaemon(worker) as daemon:
        service = make(daemon.path)
        service.execute_code("1", "c", "n")
        service.set_notebook_execution_seed("n", 42)
        service.execute_code("1", "c", "n")
        service.close_notebook("n")
        service.execute_code("1", "c", "n")
        service.execute_code("1", "c", "other")
        service.clear_namespace("n")
        service.delete_notebook("n")
        service.execute_code("1", "c", "n")
        told = [(arguments(asked)["do"], arguments(asked)["seed"]) for asked in executes(daemon)]
        assert told == [
            ("run", seed_of("n")), ("seed", 42), ("run", 42), ("run", 42), ("run", seed_of("other")),
            ("clear", 42), ("run", seed_of("n")),
        ]  # fmt: skip


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_would_refuse_is_refused_here(make: Make, seed: int) -> None:
    with FakeDaemon(worker) as daemon:
        with pytest.raises(ValueError, match="random numbers begin with 0 to 4294967295"):
            make(daemon.path).set_notebook_execution_seed("n", seed)
        assert daemon.requests == []


def test_clearing_says_what_is_kept(make: Make) -> None:
    with FakeDaemon(worker) as daemon:
        service = make(daemon.path)
        service.clear_namespace("n")
        service.clear_namespace("n", keep_imports=False, clear_saved_state=False)
        assert [arguments(asked) for asked in executes(daemon)] == [
            {"do": "clear", "notebook": "n", "seed": seed_of("n"), "keep_imports": keep}
            for keep in (True, False)
        ]


def test_variables_are_asked_for_without_counting(make: Make) -> None:
    with FakeDaemon(worker) as daemon:
        service = make(daemon.path)
        assert service.get_variable_info("n")["numbers"] == {"x": {"type": "int"}}
        assert service.get_variable_content("n", "x") == {"type": "int", "value": "1"}
        assert [asked["options"]["silent"] for asked in executes(daemon)] == [True, True]


def test_an_unknown_variable_is_a_key_error_with_the_old_text(make: Make) -> None:
    with FakeDaemon(worker) as daemon:
        with pytest.raises(KeyError) as raised:
            make(daemon.path).get_variable_content("n", "y")
        assert isinstance(raised.value, cellblock.CellblockError)
        assert str(raised.value) == "Variable 'y' not found"


@pytest.mark.parametrize(
    "answer", [None, b"{", [], {"dataframes": {}}, {name: [] for name in CATEGORIES}], ids=str
)
def test_an_answer_of_the_wrong_shape_is_a_protocol_error(make: Make, answer: Any) -> None:
    with FakeDaemon(answering(answer)) as daemon:
        with pytest.raises(cellblock.ProtocolError, match="worker of `n` answers to `variables`"):
            make(daemon.path).get_variable_info("n")


def test_what_was_not_done_is_raised_with_its_outcome(make: Make) -> None:
    with FakeDaemon(answering(end={"worker_died": {"exited": {"code": 7}}})) as daemon:
        with pytest.raises(
            cellblock.ExecutionFailed, match=r"`clear` .* the worker exited with code 7"
        ) as failed:
            make(daemon.path).clear_namespace("n")
        assert failed.value.outcome.kind == "worker_died"


def test_what_a_question_hears_is_told_with_the_next_cell(make: Make) -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if arguments(content)["do"] == "run":
            return worker(peer, name, content, payload)
        peer.accept(content["execution"])
        peer.reply(output(content["execution"], 0, {"notice": NOTICE}))
        display(peer, content["execution"], 1, ANSWER, CATEGORIES)
        return peer.end(content["execution"], 2)

    with FakeDaemon(handler) as daemon:
        service = make(daemon.path)
        service.get_variable_info("n")
        told = [service.execute_code("1", "c", notebook).notices for notebook in ("other", "n", "n")]
        assert told == [[], [NOTICE], []]


def test_a_notebook_that_somebody_closed_is_opened_again(make: Make) -> None:
    closed = [False]

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if closed[0]:
            closed[0] = False
            return peer.refuse("unknown_notebook")
        return worker(peer, name, content, payload)

    with FakeDaemon(handler) as daemon:
        service = make(daemon.path)
        service.execute_code("1", "c", "n")
        closed[0] = True
        assert service.execute_code("2", "c", "n").stdout == "2"
        assert names(daemon) == ["open_notebook", "execute", "execute", "open_notebook", "execute"]


@pytest.mark.parametrize("is_accepted", [False, True])
def test_a_cell_is_not_sent_for_ever_and_never_again_when_it_may_have_run(
    make: Make, is_accepted: bool
) -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if is_accepted:
            peer.accept(content["execution"])
        peer.refuse("unknown_notebook")

    with FakeDaemon(handler) as daemon:
        with pytest.raises(cellblock.UnknownNotebook):
            make(daemon.path).execute_code("1", "c", "n")
        assert names(daemon).count("execute") == (1 if is_accepted else 2)


def test_notebooks_are_interrupted_closed_and_deleted_by_cellblocks_name(make: Make) -> None:
    with FakeDaemon(worker) as daemon:
        service = make(daemon.path)
        service.interrupt("my notebook")
        service.close_notebook("my notebook")
        service.delete_notebook("my notebook")
        asked = [(name, content["notebook"]) for _, name, content in daemon.requests]
        known = safe_id("my notebook")
        assert asked == [("interrupt", known), ("close", known), ("delete", known)]


def test_to_close_what_is_not_open_is_no_error(make: Make) -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.refuse("unknown_notebook")

    with FakeDaemon(handler) as daemon:
        service = make(daemon.path)
        service.interrupt("n")
        service.close_notebook("n")
        service.delete_notebook("n")


def info(number: int) -> dict[str, Any]:
    """A line of `checkpoints`."""
    rest = {"names": 1, "left_out": 0, "state_bytes": 1, "own_bytes": 1, "python": "3.11.7"}
    return {"id": number, "created_ms": 0, "execution": "e", "current": True, **rest}


LOCK = {"path": "lk", "type": "_thread.lock", "reason": "a lock"}
SAVED = {"saved": {"id": 2, "written_bytes": 7, "pause_us": 1500}}
PARTIAL = {"partial": {**SAVED["saved"], "left_out": [LOCK], "left_out_count": 1}}


class Saving:
    """A worker's daemon with a store: `saved` checkpoints, and what becomes of the next."""

    def __init__(self, saved: int = 0, becomes: object = SAVED) -> None:
        self.saved = saved
        self.becomes = becomes

    def __call__(self, peer: Peer, name: str, content: Any, payload: bytes) -> None:
        match name:
            case "checkpoints" | "restore" if self.saved < 0:
                peer.refuse("checkpoint", "the profile has none")
            case "restore" if self.saved == 0:
                peer.refuse("checkpoint", "there is none")
            case "checkpoints":
                infos = [info(number) for number in range(self.saved)]
                peer.reply({"checkpoints": {"checkpoints": infos, "used_bytes": 0, "damage": []}}, last=True)
            case "checkpoint":
                peer.reply({"checkpoint": self.becomes}, last=True)
            case "restore":
                peer.reply({"restored": {"checkpoint": 1, "names": [], "losses": []}}, last=True)
            case "collect_checkpoints":
                collected = {"removed": [1], "freed_bytes": 0, "used_bytes": 0, "damage": []}
                peer.reply({"collected": collected}, last=True)
            case "execute" if content["options"]["checkpoint"] != "none":
                peer.accept(content["execution"])
                ended: Any = outcome(content["execution"], 0)
                ended["outcome"]["outcome"]["checkpoint"] = self.becomes
                peer.reply(ended, last=True)
            case _:
                worker(peer, name, content, payload)


def test_a_cell_is_saved_unless_it_says_no(make: Make) -> None:
    with FakeDaemon(Saving(becomes=PARTIAL)) as daemon:
        service = make(daemon.path)
        saved = service.execute_code("x", "c", "n")
        assert saved.checkpoint == {
            "state": "partial",
            "id": 2,
            "reason": None,
            "left_out": [LOCK],
            "left_out_count": 1,
            "written_bytes": 7,
            "pause_seconds": 0.0015,
        }
        assert saved.model_dump(mode="json")["checkpoint"] == saved.checkpoint
        assert service.execute_code("x", "c", "n", persist_state=False).checkpoint is None
        service.get_variable_info("n")
        service.set_notebook_execution_seed("n", 1)
        asked = [execute["options"]["checkpoint"] for execute in executes(daemon)]
        assert asked == ["wait", "none", "none", "wait"]


def test_saved_state_is_asked_for_saved_restored_and_cleared(make: Make) -> None:
    with FakeDaemon(Saving(saved=2)) as daemon:
        service = make(daemon.path)
        assert service.has_saved_state("n") is True
        assert (service.save_state("n")["state"], service.restore_state("n")) == ("saved", True)
        assert service.clear_saved_state("n") is True
        assert names(daemon) == [
            "open_notebook", "checkpoints", "checkpoint", "restore", "checkpoints", "clear",
        ]  # fmt: skip


def test_without_saved_state_there_is_nothing_to_restore(make: Make) -> None:
    with FakeDaemon(Saving()) as daemon:
        service = make(daemon.path)
        assert (service.has_saved_state("n"), service.restore_state("n")) == (False, False)
        # One may be on its way, so it is cleared all the same.
        assert service.clear_saved_state("n") is False
        assert names(daemon)[-1] == "clear"
    with FakeDaemon(Saving(saved=-1)) as daemon:
        service = make(daemon.path)
        for method in (service.has_saved_state, service.restore_state, service.clear_saved_state):
            assert method("n") is False
        assert "clear" not in names(daemon)


def test_a_checkpoint_that_cannot_be_restored_is_no_absence_of_one(make: Make) -> None:
    def damaged(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if name == "restore":
            peer.refuse("checkpoint", "checkpoint 1 is damaged")
        else:
            Saving(saved=1)(peer, name, content, payload)

    with FakeDaemon(damaged) as daemon, pytest.raises(cellblock.CheckpointProblem, match="is damaged"):
        make(daemon.path).restore_state("n")


@pytest.mark.parametrize(
    ("clears", "saved", "becomes", "then"),
    [
        (True, 2, SAVED, ["collect_checkpoints"]),
        (True, 2, {"failed": {"reason": "the disk is full"}}, ["checkpoints", "clear"]),
        (True, -1, {"failed": {"reason": "the profile has none"}}, ["checkpoints"]),
        (False, 2, SAVED, []),
    ],
)
def test_what_is_cleared_does_not_come_back(
    make: Make, clears: bool, saved: int, becomes: object, then: list[str]
) -> None:
    with FakeDaemon(Saving(saved, becomes)) as daemon:
        make(daemon.path).clear_namespace("n", clear_saved_state=clears)
        assert names(daemon) == ["open_notebook", "execute", *then]
        [asked] = executes(daemon)
        assert asked["options"]["checkpoint"] == ("wait" if clears else "none")


def test_code_that_is_no_text_is_refused_and_not_sent(make: Make) -> None:
    with FakeDaemon(worker) as daemon:
        result = make(daemon.path).execute_code("x = 1\ny = '\ud83d'\n", "c", "n")
        message = "Syntax Error on line 2: U+D83D is half of a character"
        assert (result.status, result.error_type, result.error_message) == (
            "error",
            "ValidationError",
            message,
        )
        assert result.syntax_error == {"line": 2, "column": 6}
        assert result.lint_report is not None
        assert [(issue["rule_id"], issue["line"]) for issue in result.lint_report["issues"]] == [
            ("DA0002", 2)
        ]
        assert daemon.requests == []


def test_refusals_of_cellblock_are_raised(make: Make) -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.refuse("sandbox", "no user namespaces")

    with FakeDaemon(handler) as daemon:
        with pytest.raises(cellblock.SandboxProblem, match="no user namespaces"):
            make(daemon.path).execute_code("1", "c", "n")
    service = make("/tmp/no-such-cellblockd")
    with pytest.raises(cellblock.SupervisorNotRunning):
        service.execute_code("1", "c", "n")


def test_it_connects_when_it_is_needed_and_leaves_others_clients_open() -> None:
    with FakeDaemon(worker) as daemon, Client.connect(daemon.path) as client:
        with ExecutionService(client) as service:
            service.execute_code("1", "c", "n")
        assert client.open("n").name == "n"
        own = ExecutionService(daemon.path)
        own.execute_code("1", "c", "n")
        own.close()
        own.close()
        # A closed one connects anew.
        assert own.execute_code("1", "c", "n").stdout == "1"
        own.close()

    async def main(daemon: FakeDaemon) -> None:
        async with await AsyncClient.connect(daemon.path) as client:
            async with AsyncExecutionService(client) as service:
                await service.execute_code("1", "c", "n")
            await client.open("n")

    with FakeDaemon(worker) as daemon:
        asyncio.run(main(daemon))


def test_both_kinds_have_the_same_methods_and_arguments() -> None:
    def signatures(kind: type) -> dict[str, str]:
        methods = {name: method for name, method in vars(kind).items() if not name.startswith("_")}
        return {name: str(inspect.signature(method)) for name, method in methods.items()}

    blocking, asynchronous = signatures(ExecutionService), signatures(AsyncExecutionService)
    assert blocking == asynchronous
    assert all(inspect.iscoroutinefunction(getattr(AsyncExecutionService, name)) for name in asynchronous)


def test_a_warning_names_the_callers_line() -> None:
    with FakeDaemon(worker) as daemon, ExecutionService(daemon.path) as service:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            service.execute_code("1", "c")
            service.execute_code("1", "c")
        assert [warning.filename for warning in caught] == [__file__]


def test_a_lost_variable_is_named_in_the_result(make: Make) -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.accept(content["execution"])
        meta = outcome(content["execution"], 0, {"worker_died": {"exited": {"code": 7}}})
        assert isinstance(meta, dict)
        meta["outcome"]["outcome"]["variables"] = {"lost": {"names": ["df"]}}
        peer.reply(meta, last=True)

    with FakeDaemon(handler) as daemon:
        result = make(daemon.path).execute_code("import os; os._exit(7)", "c", "n")
        assert (result.status, result.error_type) == ("error", "WorkerDied")
        assert "gone with this one: df" in (result.error_message or "")
        assert result.outcome["lost"] == ["df"]
