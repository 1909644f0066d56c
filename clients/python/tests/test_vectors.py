"""The golden vectors of `proto/vectors`: what the Rust side writes, this side reads, and the reverse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cellblock import (
    Checkpoint,
    CheckpointEvent,
    Collected,
    Drained,
    EventsMissed,
    FrameError,
    NotebookEvent,
    NotRestored,
    ProtocolError,
    RequestRefused,
    Step,
    VersionMismatch,
    unescape_name,
)
from cellblock import _requests as requests
from cellblock._fields import Fields, parse_json, variant
from cellblock._frames import Codec, Frame, FrameReader, Header, Kind
from cellblock._messages import Bundle, Display, Error, Notice, Result, Stream, Truncated, parse_output
from cellblock._outcome import ExpressionError, LimitHit, Raised, WorkerDied, parse_outcome
from cellblock._protocol import Progress, Session
from cellblock._status import parse_notebook, parse_status

FOLDER = Path(__file__).parents[3] / "proto" / "vectors"
VECTORS: list[dict[str, Any]] = json.loads((FOLDER / "v1.json").read_text())
MALFORMED: list[dict[str, Any]] = json.loads((FOLDER / "v1-malformed.json").read_text())


def json_vectors(hop: str) -> dict[str, dict[str, Any]]:
    of_hop = [vector for vector in VECTORS if (vector["hop"], vector["codec"]) == (hop, "json")]
    return {vector["name"].removesuffix(".json"): vector for vector in of_hop}


REQUESTS = json_vectors("request")
REPLIES = json_vectors("reply")
OUTPUTS = {name: v for name, v in REPLIES.items() if name.startswith("output_")}
OUTCOMES = {name: v for name, v in REPLIES.items() if name.startswith("outcome_")}


def name_of(vector: dict[str, Any]) -> str:
    return f"{vector['hop']}.{vector['name']}" if "hop" in vector else str(vector["name"])


@pytest.mark.parametrize("vector", VECTORS, ids=name_of)
def test_frame_decodes_and_encodes_to_the_same_bytes(vector: dict[str, Any]) -> None:
    data, header = bytes.fromhex(vector["frame"]), vector["header"]
    reader = FrameReader()
    reader.feed(data)
    frame = reader.next_frame()
    assert frame is not None
    assert reader.next_frame() is None
    assert reader.pending_bytes == 0
    assert (frame.kind, frame.codec) == (Kind(header["kind"]), Codec(header["codec"]))
    assert (frame.flags, frame.request) == (header["flags"], header["request"])
    assert (len(frame.meta), len(frame.payload)) == (header["meta_bytes"], header["payload_bytes"])
    assert frame.payload == bytes.fromhex(vector["payload"])
    assert frame.kind.name.lower() == vector["hop"]
    if frame.codec is Codec.JSON:
        assert parse_json(frame.meta) == vector["meta"]
    assert frame.encode() == data
    assert Header.decode(data).encode() == data[:16]


@pytest.mark.parametrize("vector", MALFORMED, ids=name_of)
def test_malformed_frame_gives_the_named_error(vector: dict[str, Any]) -> None:
    reader = FrameReader()
    reader.feed(bytes.fromhex(vector["frame"]))
    with pytest.raises(FrameError) as caught:
        reader.next_frame()
    assert str(caught.value) == vector["error"]


@pytest.mark.parametrize("chunk", [1, 2, 15, 17, 1000, 4096])
def test_any_split_of_a_stream_gives_the_same_frames(chunk: int) -> None:
    stream = b"".join(bytes.fromhex(vector["frame"]) for vector in VECTORS)
    reader = FrameReader()
    frames: list[Frame] = []
    for start in range(0, len(stream), chunk):
        reader.feed(stream[start : start + chunk])
        while frame := reader.next_frame():
            frames.append(frame)
    assert b"".join(frame.encode() for frame in frames) == stream
    assert reader.pending_bytes == 0


@pytest.mark.parametrize("vector", REPLIES.values(), ids=name_of)
def test_every_reply_is_understood(vector: dict[str, Any]) -> None:
    session = Session()
    for _ in range(vector["header"]["request"] or 1):  # Those it answers the last of.
        session.request("notebooks")
    session.feed(bytes.fromhex(vector["frame"]))
    meta, payload = vector["meta"], bytes.fromhex(vector["payload"])
    if "error" in meta:
        with pytest.raises((RequestRefused, VersionMismatch)) as refused:
            session.next_reply()
        assert str(refused.value) == meta["error"]["message"]
        if isinstance(refused.value, RequestRefused):
            assert refused.value.code == meta["error"]["code"]
            assert type(refused.value) is not RequestRefused
        return
    reply = session.next_reply()
    assert reply is not None
    assert reply.payload == payload
    parse_reply(reply.name, reply.content, payload)


def parse_reply(name: str, content: object, payload: bytes) -> None:
    if name == "answer":
        parse_any_answer(name, content, payload)
        return
    fields = Fields(name, content)
    match name:
        case "hello":
            Session().greet(_reply_like(name, content))
        case "notebook":
            assert parse_notebook(fields).name == "analysis"
        case "notebooks":
            page, more = requests.notebooks().parse(name, content, payload)
            states = [info.state for info in page]
            assert more
            assert states == ["none", "starting", "idle", "busy", "ending", "waiting"]
        case "status":
            assert parse_status(fields).info.profile == "default"
        case "doctor":
            lines = requests.doctor().parse(name, content, payload)
            assert lines[1].cure == "apt-get install uidmap"
        case "profiles":
            listed = requests.profiles().parse(name, content, payload)
            assert [(info.name, info.usable, info.builtin) for info in listed] == [
                ("default", True, True),
                ("mine", False, False),
            ]
        case "warm":
            warm = requests.warm().parse(name, content, payload)
            assert [(info.profile, info.zygote, info.spares_ready, info.spares_wanted) for info in warm] == [
                ("default", "up", 1, 2),
                ("data-science", "starting", 1, 2),
                ("team", "failed", 1, 2),
            ]
            assert "polars" in warm[2].detail
        case "plan":
            steps = requests.plan(None).parse(name, content, payload)
            assert steps[2] == Step("init", "private_root", True, "pivot", {}, "so that it holds")
            assert (steps[3].required, steps[3].action) == (False, "sysctl")
            assert steps[3].arguments == {"key": "user/max_user_namespaces", "value": "0"}
        case "drained":
            assert requests.drain(None).parse(name, content, payload) == Drained(1, 2, 0)
        case "metrics":
            assert requests.metrics().parse(name, content, payload).startswith("# HELP cellblock_workers ")
        case "overview":
            overview = requests.overview().parse(name, content, payload)
            assert overview.daemon.uptime_seconds == 86_400.0
            assert overview.notebooks[0].pinned
        case "tenants":
            (tenant,) = requests.tenants().parse(name, content, payload)
            assert (tenant.uids, tenant.uses.workers, tenant.limits.running) == ((1001, 1002), 2, 4)
        case "done":
            requests.interrupt("analysis").parse(name, content, payload)
        case "files":
            listing = requests.list_files("analysis", "").parse(name, content, payload)
            assert all(unescape_name(file.name) for file in listing)
        case "checkpoint" | "checkpoints" | "checkpoint_content" | "restored" | "verified" | "collected":
            parse_about_checkpoints(name, content, payload)
        case "part":
            assert requests.export_checkpoint("analysis", None).parse(name, content, payload) == payload
            assert payload.startswith(b"CBEXPT1\n")
        case "imported":
            call = requests.import_checkpoint("analysis", 0, b"", last=True)
            assert call.parse(name, content, payload) == 43
        case "listening":
            assert requests.events(None).parse(name, content, payload) is None
        case "event":
            event = requests.events(None).parse(name, content, payload)
            assert isinstance(event, NotebookEvent) or event in (
                CheckpointEvent("analysis", "e-1", Checkpoint("saved", 42, 4096, 0.0021)),
                EventsMissed(5),
            )
        case "file":
            part = requests.read_file("analysis", "a.csv", 0, 1 << 20).parse(name, content, payload)
            assert part.file_bytes >= len(part.data)
        case "accepted" | "output" | "outcome":
            seen = Progress("analysis", "e-1", next_seq=_outputs_before(name, content))
            seen.receive(_reply_like(name, content, payload))
        case _:
            pytest.fail(f"no test for the reply `{name}`")


def parse_about_checkpoints(name: str, content: object, payload: bytes) -> None:
    notebook, lock = "analysis", NotRestored("d['lock']", "_thread.lock", "a lock")
    match name:
        case "checkpoint":
            assert requests.checkpoint(notebook).parse(name, content, payload) in (
                Checkpoint("partial", 43, 262144, 0.0027, None, (lock,), 1),
                Checkpoint("failed", reason="the disk is full"),
            )
        case "checkpoints":
            kept = requests.checkpoints(notebook).parse(name, content, payload)
            assert [(info.id, info.parent, info.origin) for info in kept] == [
                (41, None, ("elsewhere", 7)),
                (42, 41, None),
            ]
            assert (kept.used_bytes, kept.damage) == (1 << 33, ("HEAD: it is missing",))
            assert kept.current is kept.checkpoints[1]
            assert kept.checkpoints[0].damage == "packs/3: it is missing"
        case "checkpoint_content":
            found = requests.checkpoint_content(notebook, 42).parse(name, content, payload)
            assert (found.info.state_bytes, found.info.own_bytes) == (80_000_500, 4096)
            assert [name.size_bytes for name in found.names] == [80_000_000, None]
            assert (found.left_out, found.packages) == ((lock,), {"numpy": "2.4.0"})
        case "restored":
            restored = requests.restore(notebook, 41).parse(name, content, payload)
            assert (restored.checkpoint, restored.names[0].name, restored.losses) == (41, "df", (lock,))
        case "verified":
            damaged, whole = requests.verify_checkpoints(notebook, None).parse(name, content, payload)
            assert (damaged.id, damaged.ok, len(damaged.losses), whole.ok) == (41, False, 1, True)
        case _:
            collected = requests.collect_checkpoints(notebook, None, None, None)
            assert collected.parse(name, content, payload) == Collected((1, 2, 3), 1 << 20, 1 << 30, ())


def parse_any_answer(name: str, content: object, payload: bytes) -> None:
    kind, _ = variant("answer", content)
    notebook = "analysis"
    if kind == "busy":
        with pytest.raises(RequestRefused, match="an Execution is running"):
            requests.variables(notebook).parse(name, content, payload)
    elif kind == "complete":
        answer = requests.complete(notebook, "df.mea", None).parse(name, content, payload)
        assert [match.text for match in answer.matches] == ["mean", "meän"]
        assert (answer.start, answer.end) == (3, 6)
    elif kind == "inspect":
        found = requests.inspect(notebook, "df.mean", None, 0).parse(name, content, payload)
        assert found is None or found.text() == "Signature: df.mean()"
    elif kind == "is_complete":
        verdict = requests.is_complete(notebook, "for").parse(name, content, payload)
        assert verdict.indent == ("    " if verdict.status == "incomplete" else "")
    elif kind == "history":
        assert requests.history(notebook, 2).parse(name, content, payload) == ((1, "x = 1"), (2, "x"))
    else:
        table, number = requests.variables(notebook).parse(name, content, payload)
        assert (table.name, table.size_bytes, table.shape) == ("df", 96, (3, 2))
        assert (table.preview, table.columns) == ("3 rows: a, b", (("a", "int64"), ("b", "str")))
        assert (number.name, number.size_bytes, number.shape, number.preview) == ("x", None, None, None)


def _reply_like(name: str, content: object, payload: bytes = b"") -> Any:
    from cellblock._protocol import Reply

    return Reply(name, content, payload, is_last=name not in ("accepted", "output"))


def _outputs_before(name: str, content: object) -> int:
    counts = {"output": "seq", "outcome": "outputs"}
    return Fields(name, content).integer(counts[name]) if name in counts else 0


def output_of(name: str) -> Any:
    vector = OUTPUTS[name]
    frame = vector["meta"]["output"]
    return parse_output(frame["seq"], frame["output"], bytes.fromhex(vector["payload"]))


def test_outputs_hold_what_was_put_out() -> None:
    assert output_of("output_stdout") == Stream(0, "stdout", "zählt\n".encode())
    assert output_of("output_stderr").text == "\ufffd\ufffd oops\n"
    figure = output_of("output_display")
    assert isinstance(figure, Display)
    assert figure.bundle["image/png"] == b"\x89PNG\r\n\x1a\n"
    assert figure.bundle.metadata == {"image/png": {"width": 640}}
    assert figure.bundle.as_jupyter() == {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure size 640x480>"}
    update = output_of("output_display_update")
    assert (update.display_id, update.update) == ("plot-1", True)
    table = output_of("output_result")
    assert isinstance(table, Result)
    assert table.bundle.json() == {"a": [1, 2]}
    assert "text/html" in table.bundle
    assert table.bundle.as_jupyter()["application/json"] == {"a": [1, 2]}
    error = output_of("output_error")
    assert isinstance(error, Error)
    assert [(frame.execution, frame.line) for frame in error.frames] == [("e-1", 3), (None, 120)]
    assert [(cause.name, cause.explicit) for cause in error.causes] == [
        ("KeyError", True),
        ("OSError", False),
    ]
    assert output_of("output_clear").wait is True
    assert output_of("output_input_request").prompt == "Name: "
    assert output_of("output_truncated_all") == Truncated(
        10, None, 5_000_000_000, "output cap of 268435456 bytes"
    )
    lost = output_of("output_notice_lost")
    assert isinstance(lost, Notice)
    assert (lost.topic, lost.names) == ("variables_lost", ("df", "model"))
    for topic in ("disk_full", "workspace_closed"):
        assert output_of(f"output_notice_{topic}").topic == topic


def test_no_kind_of_output_is_without_a_vector() -> None:
    from typing import get_args

    from cellblock import Output

    assert {type(output_of(name)) for name in OUTPUTS} == set(get_args(Output))


def outcome_of(name: str) -> Any:
    vector = OUTCOMES[name]
    return parse_outcome(
        Fields("outcome", vector["meta"]["outcome"]["outcome"]), bytes.fromhex(vector["payload"])
    )


def test_outcomes_say_how_it_ended() -> None:
    assert {outcome_of(name).kind for name in OUTCOMES} == {
        "ok",
        "error",
        "timed_out",
        "interrupted",
        "limit_hit",
        "worker_died",
        "cancelled",
    }
    assert outcome_of("outcome_ok").ok
    assert outcome_of("outcome_ok").lost is None
    assert outcome_of("outcome_error").end == Raised("ZeroDivisionError", "division by zero")
    assert outcome_of("outcome_timed_out").end.limit_seconds == 2.5
    assert outcome_of("outcome_limit_hit").end == LimitHit("memory", 1 << 32, (1 << 32) + 4096)
    assert outcome_of("outcome_signalled").end == WorkerDied("signalled", signal=11)
    assert str(outcome_of("outcome_signalled").end) == "the worker was ended by SIGSEGV"
    assert outcome_of("outcome_exited").lost == ("df", "x")
    fates = {outcome_of(name).variables for name in OUTCOMES}
    assert fates == {"kept", "lost", "rolled_back"}
    assert (outcome_of("outcome_error").variables, outcome_of("outcome_error").lost) == ("rolled_back", None)
    assert outcome_of("outcome_ok").checkpoint == Checkpoint("saved", 7, 276_214, 0.0027)
    assert outcome_of("outcome_error").checkpoint == Checkpoint("pending")
    partial = outcome_of("outcome_interrupted").checkpoint
    assert (partial.state, partial.is_saved, partial.left_out_count) == ("partial", True, 1)
    assert partial.left_out == (NotRestored("d['lock']", "_thread.lock", "a lock"),)
    full = outcome_of("outcome_full")
    assert (full.names.added[0].size_bytes, full.names.removed) == (1 << 40, ("tmp",))
    value = full.expressions["n"]
    assert isinstance(value, Bundle)
    assert value.text() == "42"
    assert full.expressions["bad"] == ExpressionError("ZeroDivisionError", "division by zero")
    assert full.wall_seconds == pytest.approx(1.234567)


CALLS: dict[str, requests.Call[Any]] = {
    "open_notebook": requests.open_notebook("analysis", None),
    "open_notebook_profile": requests.open_notebook("analysis", "large"),
    "interrupt": requests.interrupt("analysis"),
    "cancel": requests.cancel("analysis", "e-1"),
    "input": requests.answer_input("analysis", "e-1", 'grün\t"'),
    "query_complete": requests.complete("analysis", "df.mea", None),
    "query_inspect": requests.inspect("analysis", "df.mea", 2, 1),
    "query_is_complete": requests.is_complete("analysis", "df.mea"),
    "query_history": requests.history("analysis", 100),
    "query_variables": requests.variables("analysis"),
    "restart": requests.restart("analysis"),
    "close": requests.close("analysis"),
    "delete": requests.delete("analysis"),
    "notebooks": requests.notebooks(),
    "notebooks_after": requests.notebooks("analysis"),
    "status": requests.status("analysis"),
    "doctor": requests.doctor(),
    "profiles": requests.profiles(),
    "warm": requests.warm(),
    "plan": requests.plan("strict"),
    "shutdown": requests.shutdown(),
    "list_files": requests.list_files("analysis", "data"),
    "read_file": requests.read_file("analysis", "data/grün.csv", 1 << 32, 1 << 20),
    "write_file": requests.write_file("analysis", "data/x.csv", 0, b"a,b\n1,2\n"),
    "remove_file": requests.remove_file("analysis", r"odd\xff"),
    "checkpoint": requests.checkpoint("analysis"),
    "checkpoints": requests.checkpoints("analysis"),
    "checkpoint_content": requests.checkpoint_content("analysis", 41),
    "restore": requests.restore("analysis", 40),
    "restore_current": requests.restore("analysis", None),
    "fork": requests.fork("analysis", None, "what-if"),
    "export_checkpoint": requests.export_checkpoint("analysis", None),
    "import_checkpoint": requests.import_checkpoint("analysis", 1 << 20, b"the end", last=True),
    "verify_checkpoints": requests.verify_checkpoints("analysis", None),
    "collect_checkpoints": requests.collect_checkpoints("analysis", None, None, None),
    "collect_checkpoints_rule": requests.collect_checkpoints("analysis", 3, None, 1 << 30),
    "clear": requests.clear("analysis"),
    "events": requests.events("analysis"),
    "events_of_all": requests.events(None, all_tenants=True),
    "pin": requests.pin("analysis", pinned=True),
    "evict": requests.evict("analysis"),
    "drain": requests.drain(None),
    "drain_seconds": requests.drain(5),
    "metrics": requests.metrics(),
    "overview": requests.overview(),
    "tenants": requests.tenants(),
}
WRITTEN: dict[str, tuple[object, bytes]] = {
    **{name: (call.meta, call.payload) for name, call in CALLS.items()},
    "execute": (requests.execute("analysis", "e-1"), b"1 + 1"),
    "execute_every_option": (
        requests.execute(
            "analysis",
            "run:2.b",
            wall_seconds=2.5,
            task={"get": {"name": "df", "format": "arrow"}},
            silent=True,
            store_history=False,
            stop_on_error=False,
            allow_stdin=True,
            echo=False,
            user_expressions={"n": "len(df)", "bad": "1/0"},
            checkpoint="wait",
            transactional=True,
            on_disconnect="interrupt",
            cell="cell-3",
        ),
        "print('héllo 🐍')\n".encode(),
    ),
    "attach": (requests.attach("analysis", "e-1", 1 << 32), b""),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_requests_are_written_as_the_vectors_say(name: str) -> None:
    meta, payload = WRITTEN[name]
    assert meta == REQUESTS[name]["meta"]
    # History and variables are about no code; the vector has some, which the daemon ignores.
    if name not in ("query_history", "query_variables"):
        assert payload == bytes.fromhex(REQUESTS[name]["payload"])


def test_no_request_is_without_a_writer() -> None:
    assert set(REQUESTS) - set(WRITTEN) == {"hello", "hello_as_tenant", "comm"}


@pytest.mark.parametrize(
    "value",
    [
        {"hologram": {}},
        {"stream": {"name": "stdlog"}},
        {"stream": {}},
        {"stream": {"name": 1}},
        {"stream": []},
        {
            "display": {
                "bundle": {"parts": [{"mime": "a/b", "span": {"offset": 1, "length": 9}}]},
                "update": False,
            }
        },
        {
            "display": {
                "bundle": {"parts": [{"mime": "a/b", "span": {"offset": -1, "length": 1}}]},
                "update": False,
            }
        },
        {"result": {"bundle": {"parts": []}, "execution_count": True}},
        {"notice": {"topic": "weather", "text": "", "names": []}},
        {"clear_output": {"wait": True}, "stream": {"name": "stdout"}},
        None,
        [],
    ],
)
def test_what_is_not_an_output_is_a_protocol_error(value: object) -> None:
    with pytest.raises(ProtocolError):
        parse_output(0, value, b"{\xff")


@pytest.mark.parametrize(
    "change",
    [{"actor": "kernel"}, {"need": "maybe"}, {"action": {"pivot": 1}}, {"action": {}}, {"reason": None}],
)
def test_what_is_not_a_step_is_a_protocol_error(change: dict[str, object]) -> None:
    step = {"actor": "init", "barrier": "proc", "need": "required", "action": "pivot", "reason": "why"}
    assert requests.plan(None).parse("plan", {"steps": [step]}, b"")[0].arguments == {}
    with pytest.raises(ProtocolError):
        requests.plan(None).parse("plan", {"steps": [{**step, **change}]}, b"")


def test_unknown_fields_are_ignored() -> None:
    assert parse_output(3, {"clear_output": {"wait": False, "gently": 1}}, b"").seq == 3
