"""The blocking client against a daemon that says what the test wants."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import cellblock
from cellblock import Client, Stream
from cellblock._fields import Fields
from cellblock._messages import parse_bundle

from .fake import FakeDaemon, Peer, outcome, output


def answer_done(peer: Peer, name: str, content: Any, payload: bytes) -> None:
    peer.reply("done", last=True)


def echo(peer: Peer, name: str, content: Any, payload: bytes) -> None:
    """Puts out the code, line by line."""
    if name != "execute":
        answer_done(peer, name, content, payload)
        return
    execution, lines = content["execution"], payload.decode().splitlines()
    peer.accept(execution)
    for seq, line in enumerate(lines):
        peer.text(execution, seq, line)
    peer.end(execution, len(lines))


def texts(execution: cellblock.Execution) -> list[str]:
    return [output.text for output in execution if isinstance(output, Stream)]


def test_outputs_come_while_the_code_runs() -> None:
    seen = threading.Event()

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        execution = content["execution"]
        peer.accept(execution)
        peer.text(execution, 0, "first")
        assert seen.wait(10), "the first output was held back"
        peer.text(execution, 1, "second")
        peer.end(execution, 2)

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        execution = client.open("n").execute("…")
        first = next(execution)
        assert isinstance(first, Stream)
        assert first.text == "first"
        assert execution.outcome is None
        seen.set()
        assert texts(execution) == ["second"]
        assert execution.outcome is not None
        assert execution.outcome.ok


def test_result_collects_streams_errors_and_outcome() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        execution = content["execution"]
        peer.accept(execution)
        # A program may write a character in two pieces.
        peer.reply(output(execution, 0), "ä".encode()[:1])
        peer.reply(output(execution, 1, {"stream": {"name": "stderr"}}), b"warned")
        peer.reply(output(execution, 2), "ä".encode()[1:])
        error = {"name": "ValueError", "value": "no", "traceback": []}
        peer.reply(output(execution, 3, {"error": error}))
        peer.end(execution, 4, {"error": {"name": "ValueError", "value": "no"}})

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        result = client.open("n").execute("…").result(timeout=10)
        assert (result.stdout, result.stderr, len(result.outputs)) == ("ä", "warned", 4)
        assert result.error is not None
        assert result.error.frames == ()
        with pytest.raises(cellblock.ExecutionFailed, match=r"^ValueError: no$") as failed:
            result.raise_for_error()
        assert failed.value.error is result.error
        assert failed.value.outcome is result.outcome


def test_connections_are_used_again() -> None:
    with FakeDaemon(echo) as daemon, Client.connect(daemon.path) as client:
        notebook = client.open("n")
        for number in range(50):
            assert notebook.execute(f"{number}").result(timeout=10).stdout == f"{number}"
        notebook.interrupt()
        assert {connection for connection, _, _ in daemon.requests} == {1}


def test_a_slow_reader_delays_nobody_else() -> None:
    with FakeDaemon(echo) as daemon, Client.connect(daemon.path) as client:
        slow = client.open("slow").execute("line\n" * 20_000)
        next(slow)
        assert client.open("quick").execute("here").result(timeout=10).stdout == "here"
        assert len(texts(slow)) == 19_999


def test_many_threads_share_a_client() -> None:
    with FakeDaemon(echo) as daemon, Client.connect(daemon.path) as client:
        wrong: list[str] = []

        def work(number: int) -> None:
            notebook = client.open(f"n{number}")
            for turn in range(30):
                code = f"{number}.{turn}\nend"
                if texts(notebook.execute(code)) != code.split("\n"):
                    wrong.append(code)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_timeout_ends_the_waiting_and_loses_nothing() -> None:
    resume = threading.Event()

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        execution = content["execution"]
        peer.accept(execution)
        whole = peer.frame(output(execution, 0), b"whole")
        peer.send(whole[:20])
        resume.wait(10)
        peer.send(whole[20:])
        peer.end(execution, 1)

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        execution = client.open("n").execute("…", execution_id="e-1")
        with pytest.raises(cellblock.Timeout, match=r"`e-1` goes on: it has not ended within 0.05 s"):
            execution.result(timeout=0.05)
        resume.set()
        assert execution.result(timeout=10).stdout == "whole"


def test_timeout_of_what_was_never_accepted_says_so_and_why() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.refuse("shutting_down", "cellblockd is being drained")

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        # The time may be over while the last refusal is still waited for: its connection is open then.
        with client.open("n").execute("…", execution_id="e") as execution:
            with pytest.raises(cellblock.Timeout) as raised:
                execution.wait(timeout=0.5)
    said = "Execution `e` was not accepted yet (cellblockd is being drained): it has not ended within 0.5 s"
    assert str(raised.value) == said


def test_timeout_of_execute_bounds_the_iteration() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.accept(content["execution"])

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        with client.open("n").execute("…", timeout=0.05) as execution, pytest.raises(TimeoutError):
            list(execution)


def test_timeout_of_a_request() -> None:
    def silent(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        pass

    with FakeDaemon(silent) as daemon, Client.connect(daemon.path, timeout=0.5) as client:
        notebook = client.open("n", timeout=10)
        with pytest.raises(cellblock.Timeout, match=r"`interrupt` was not answered within 0.5 s"):
            notebook.interrupt()
        with pytest.raises(cellblock.Timeout, match=r"within 0.01 s"):
            client.doctor(timeout=0.01)


def test_timeout_of_connecting() -> None:
    with FakeDaemon(answer_done) as daemon:
        path = daemon.path.with_name("mute")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
            mute.bind(str(path))
            mute.listen()
            with pytest.raises(cellblock.Timeout, match="did not answer within"):
                Client.connect(path, timeout=0.05)


def test_no_daemon_is_said_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(cellblock.SupervisorNotRunning, match=r"no cellblockd listens at .*LocalSupervisor"):
        Client.connect(missing)
    monkeypatch.setenv("CELLBLOCK_SOCKET", str(missing))
    with pytest.raises(cellblock.SupervisorNotRunning, match=str(missing)):
        Client.connect()
    monkeypatch.delenv("CELLBLOCK_SOCKET")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    if not Path("/run/cellblock/cellblockd.sock").exists():
        with pytest.raises(cellblock.SupervisorNotRunning, match=f"{tmp_path}/cellblock/cellblockd.sock"):
            Client.connect()


def test_too_long_a_socket_path_is_named() -> None:
    with pytest.raises(cellblock.ConnectError, match="socket path of 205 bytes, 107 is the longest"):
        Client.connect("/tmp/" + "x" * 200)


def test_the_environment_chooses_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeDaemon(answer_done) as daemon:
        monkeypatch.setenv("CELLBLOCK_SOCKET", str(daemon.path))
        with Client.connect() as client:
            assert client.server == "fake"


def test_version_mismatch_names_both_ranges() -> None:
    message = "client speaks 1 to 1, cellblockd 2 to 3"

    def refuse(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.refuse("version", message)

    with FakeDaemon(answer_done) as daemon:
        daemon._handle = refuse  # type: ignore[method-assign]
        with pytest.raises(cellblock.VersionMismatch, match=message):
            Client.connect(daemon.path)


def test_a_version_that_was_not_offered_is_refused() -> None:
    hello = {"version": 9, "codec": "json", "server": "x", "meta_bytes": 1, "payload_bytes": 1}
    with FakeDaemon(answer_done, hello=hello) as daemon:
        with pytest.raises(cellblock.VersionMismatch, match="chose protocol version 9"):
            Client.connect(daemon.path)


def test_not_a_daemon_at_all() -> None:
    def greet_in_http(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with FakeDaemon(answer_done) as daemon:
        daemon._handle = greet_in_http  # type: ignore[method-assign]
        with pytest.raises(cellblock.FrameError, match="first byte is 0x48, not 0xcb"):
            Client.connect(daemon.path)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("unknown_notebook", cellblock.UnknownNotebook),
        ("busy", cellblock.Busy),
        ("forbidden", cellblock.Forbidden),
        ("storage", cellblock.StorageProblem),
        ("interpreter", cellblock.InterpreterProblem),
        ("from_the_future", cellblock.RequestRefused),
    ],
)
def test_a_refusal_is_its_exception_and_the_connection_lives(
    code: str, kind: type[cellblock.RequestRefused]
) -> None:
    def refuse(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.refuse(code, "notebook `n` is not open")

    with FakeDaemon(refuse) as daemon, Client.connect(daemon.path) as client:
        notebook = client.open("n")
        for ask in (notebook.interrupt, lambda: notebook.execute("…").wait()):
            with pytest.raises(kind, match="notebook `n` is not open") as caught:
                ask()
            assert type(caught.value) is kind
            assert caught.value.code == code
        client.open("n")


def test_what_is_busy_says_when_to_try_again() -> None:
    def refuse(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.refuse("busy", hint={"retry_ms": 1500, "position": 3} if name == "execute" else None)

    with FakeDaemon(refuse) as daemon, Client.connect(daemon.path) as client:
        notebook = client.open("n")
        with pytest.raises(cellblock.Busy) as caught:
            notebook.execute("…").wait()
        assert (caught.value.retry_seconds, caught.value.position) == (1.5, 3)
        with pytest.raises(cellblock.Busy) as caught:
            notebook.interrupt()
        assert (caught.value.retry_seconds, caught.value.position) == (None, None)


def test_every_connection_is_as_the_tenant_that_was_asked_for() -> None:
    with FakeDaemon(echo) as daemon:
        for tenant in ("lab", None):
            daemon.tenants.clear()
            with Client.connect(daemon.path, tenant=tenant) as client:
                first, second = client.open("a").execute("1"), client.open("b").execute("2")
                assert texts(first) == ["1"]
                assert texts(second) == ["2"]
            assert len(daemon.tenants) > 1
            assert set(daemon.tenants) == {tenant}


def test_too_large_a_code_never_leaves_the_client() -> None:
    hello = {"version": 1, "codec": "json", "server": "x", "meta_bytes": 4096, "payload_bytes": 100}
    with FakeDaemon(echo, hello=hello) as daemon, Client.connect(daemon.path) as client:
        notebook = client.open("n")
        with pytest.raises(cellblock.TooLarge, match="payload of 101 bytes, the limit is 100 bytes"):
            notebook.execute("#" * 101)
        assert notebook.execute("#" * 100).wait(timeout=10).ok


def test_input_is_answered_by_the_callback() -> None:
    answers: list[Any] = []
    answered = threading.Event()

    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if name == "input":
            answers.append(content)
            peer.reply("done", last=True)
            answered.set()
            return
        assert content["options"]["allow_stdin"] is True
        execution = content["execution"]
        peer.accept(execution)
        peer.reply(output(execution, 0, {"input_request": {"prompt": "Name: ", "password": False}}))
        assert answered.wait(10)
        peer.end(execution, 1)

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        execution = client.open("n").execute(
            "…", execution_id="e", on_input=lambda request: request.prompt.upper()
        )
        assert execution.wait(timeout=10).ok
        assert answers == [{"notebook": "n", "execution": "e", "value": "NAME: "}]


def test_a_mark_of_missing_output_stands_for_all_up_to_its_number() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        execution = content["execution"]
        peer.accept(execution)
        peer.text(execution, 0, "head")
        mark = {"stream": None, "dropped_bytes": 7, "reason": "cellblockd keeps so much"}
        peer.reply(output(execution, 5, {"truncated": mark}))
        peer.text(execution, 6, "tail")
        peer.end(execution, 7)

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        outputs = client.open("n").execute("…").result(timeout=10).outputs
        assert [output.seq for output in outputs] == [0, 5, 6]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([output("e", 1)], "output 1 of Execution `e` came, 0 is missing"),
        ([output("e", 0), output("e", 0)], "output 0 of Execution `e` was seen already"),
        ([output("other", 0)], "is about Execution `other`, not `e`"),
        ([output("e", 0, {"hologram": {}})], "unknown output 'hologram'"),
        (["done"], "`done` lacks the field `execution`"),
    ],
)
def test_a_stream_that_is_not_whole_is_a_protocol_error(frames: list[object], message: str) -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.accept("e")
        for frame in frames:
            peer.reply(frame)

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        with pytest.raises(cellblock.ProtocolError, match=message):
            client.open("n").execute("…", execution_id="e").wait(timeout=10)


def test_an_outcome_that_counts_more_outputs_than_came_is_a_protocol_error() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.accept("e")
        peer.reply(outcome("e", 3), last=True)

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        with pytest.raises(cellblock.ProtocolError, match="had 3 outputs, 0 of them came"):
            client.open("n").execute("…", execution_id="e").wait(timeout=10)


def test_an_answer_to_another_request_is_a_protocol_error() -> None:
    def handler(peer: Peer, name: str, content: Any, payload: bytes) -> None:
        peer.reply("done", last=True, request=4711)

    with FakeDaemon(handler) as daemon, Client.connect(daemon.path) as client:
        with pytest.raises(cellblock.ProtocolError, match="answers request 4711"):
            client.open("n").interrupt()


def test_a_closed_client_says_so() -> None:
    with FakeDaemon(echo) as daemon:
        client = Client.connect(daemon.path)
        notebook = client.open("n")
        client.close()
        with pytest.raises(cellblock.CellblockError, match="the client is closed"):
            notebook.execute("…")


def test_exported_names_exist_and_are_all_that_is_public() -> None:
    public = {name for name in vars(cellblock) if not name.startswith("_")}
    assert public == set(cellblock.__all__) - {"__version__"}


def test_every_exception_is_a_cellblock_error() -> None:
    raised = [
        value
        for value in vars(cellblock).values()
        if isinstance(value, type) and issubclass(value, Exception)
    ]
    assert len(raised) > 20
    assert all(issubclass(kind, cellblock.CellblockError) for kind in raised)
    assert issubclass(cellblock.Timeout, TimeoutError)


@pytest.mark.parametrize(
    "metadata", [b"{", b"\xff", b"[1]", b"null", b"[" * 100_000, b'{"a":[' + b"[]," * 20_000 + b"1]}"]
)
def test_metadata_that_is_no_good_costs_the_metadata_alone(metadata: bytes) -> None:
    parts = [{"mime": "text/plain", "span": {"offset": 0, "length": 1}}]
    span = {"offset": 1, "length": len(metadata)}
    bundle = parse_bundle(Fields("bundle", {"parts": parts, "metadata": span}), b"x" + metadata)
    assert (bundle.text(), bundle.metadata) == ("x", {})
