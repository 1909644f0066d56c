"""What can be asked: each request as a `Call`, its message together with how to read the answer.

Both clients send these; neither knows a message by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypedDict, TypeVar

from ._checkpoints import (
    Checkpoint,
    CheckpointContent,
    Checkpoints,
    Collected,
    Event,
    Restored,
    Verified,
    keep_rule,
    parse_checkpoint,
    parse_collected,
    parse_content,
    parse_event,
    parse_list,
    parse_restored,
    parse_verified,
)
from ._exceptions import Busy, ProtocolError
from ._fields import Fields, variant
from ._files import FilePart, Listing, parse_listing, parse_part
from ._messages import Bundle
from ._operations import (
    Drained,
    Overview,
    TenantInfo,
    parse_drained,
    parse_overview,
    parse_tenant,
)
from ._profiles import ProfileInfo, Step, WarmInfo, parse_profile, parse_step, parse_warm
from ._status import (
    Completions,
    DoctorLine,
    IsComplete,
    NotebookInfo,
    NotebookStatus,
    VariableInfo,
    parse_completions,
    parse_doctor_line,
    parse_history,
    parse_inspection,
    parse_is_complete,
    parse_notebook,
    parse_status,
    parse_variables,
)

T = TypeVar("T")
Checkpointing: TypeAlias = Literal["none", "background", "wait"]
"""Whether variables are saved after an Execution: not at all, while the next ones run, before its Outcome."""
OnDisconnect: TypeAlias = Literal["continue", "interrupt"]
"""What becomes of an Execution whose client has gone, and which nobody else reads."""
ValueFormat: TypeAlias = Literal["json", "arrow"]
Task: TypeAlias = Literal["code"] | dict[str, dict[str, str]]
"""What an Execution does with its payload, as the wire has it."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request answered by one reply."""

    meta: dict[str, object] | str
    parse: Callable[[str, object, bytes], T]
    """From the reply's name, its content and its payload."""
    payload: bytes = b""

    @property
    def name(self) -> str:
        """The message's name."""
        return self.meta if isinstance(self.meta, str) else next(iter(self.meta))


class ExecuteOptions(TypedDict, total=False):
    """How code is to be run; what is absent takes the default said here."""

    wall_seconds: float | None
    """Wall time allowed; the profile's when None, never more than the profile's."""
    silent: bool
    """Run without counting, without history, without display of the last expression (False)."""
    store_history: bool
    """Keep the code in `In` and its value in `Out` (True)."""
    stop_on_error: bool
    """When this fails, what is queued behind it is cancelled (True)."""
    allow_stdin: bool
    """Whether `input()` may ask; `on_input` implies it (False)."""
    echo: bool
    """Whether the value of the last expression is displayed (True)."""
    user_expressions: Mapping[str, str]
    """Expressions evaluated after the code, by name; see `Outcome.expressions`."""
    checkpoint: Checkpointing | None
    """Whether the variables are saved afterwards; the profile's when None."""
    transactional: bool
    """When the code fails, the variables are as they were before it, in a new worker (False)."""
    on_disconnect: OnDisconnect
    """What becomes of it when its connection ends before it does, also by `Execution.close()`.

    "continue": it runs on, its outputs are kept, and `attach` reads them; "interrupt": it is interrupted, or
    cancelled while it waits, unless somebody else reads it ("continue").
    """
    cell: str | None
    """What the code calls itself in tracebacks."""
    plugin: tuple[str, Mapping[str, object]]
    """A plug-in of the worker's that the code is run with, and its arguments, which must have a JSON form."""


def execute(
    notebook: str,
    execution_id: str,
    *,
    wall_seconds: float | None = None,
    silent: bool = False,
    store_history: bool = True,
    stop_on_error: bool = True,
    allow_stdin: bool = False,
    echo: bool = True,
    user_expressions: Mapping[str, str] | None = None,
    checkpoint: Checkpointing | None = None,
    transactional: bool = False,
    on_disconnect: OnDisconnect = "continue",
    cell: str | None = None,
    plugin: tuple[str, Mapping[str, object]] | None = None,
    task: Task = "code",
) -> dict[str, object]:
    """The message `execute`; the code is the payload."""
    if plugin is not None:
        task = {"plugin": {"name": plugin[0], "arguments": json.dumps(plugin[1])}}
    options = {
        "silent": silent,
        "store_history": store_history,
        "stop_on_error": stop_on_error,
        "allow_stdin": allow_stdin,
        "echo": "last_expression" if echo else "none",
        "user_expressions": [[name, expression] for name, expression in (user_expressions or {}).items()],
        "wall_ms": None if wall_seconds is None else max(1, round(wall_seconds * 1000)),
        "cell": cell,
        "task": task,
        "checkpoint": checkpoint,
        "transactional": transactional,
        "on_disconnect": on_disconnect,
    }
    return {"execute": {"notebook": notebook, "execution": execution_id, "options": options}}


def attach(notebook: str, execution_id: str, from_seq: int) -> dict[str, object]:
    """The message `attach`."""
    return {"attach": {"notebook": notebook, "execution": execution_id, "from_seq": from_seq}}


def open_notebook(notebook: str, profile: str | None) -> Call[NotebookInfo]:
    """Makes a notebook known."""
    parse = _one("notebook", parse_notebook)
    return Call({"open_notebook": {"notebook": notebook, "profile": profile}}, parse)


def interrupt(notebook: str) -> Call[None]:
    """Interrupts what runs."""
    return Call({"interrupt": {"notebook": notebook}}, _done)


def cancel(notebook: str, execution_id: str) -> Call[None]:
    """Takes an Execution out of the queue, or interrupts it."""
    return Call({"cancel": {"notebook": notebook, "execution": execution_id}}, _done)


def answer_input(notebook: str, execution_id: str, value: str) -> Call[None]:
    """Answers `input()`."""
    return Call({"input": {"notebook": notebook, "execution": execution_id, "value": value}}, _done)


def restart(notebook: str) -> Call[None]:
    """Ends the worker; the next Execution gets a new one."""
    return Call({"restart": {"notebook": notebook}}, _done)


def close(notebook: str) -> Call[None]:
    """Ends the worker and forgets the notebook; its files stay."""
    return Call({"close": {"notebook": notebook}}, _done)


def delete(notebook: str) -> Call[None]:
    """`close`, and its files go too."""
    return Call({"delete": {"notebook": notebook}}, _done)


def notebooks(after: str | None = None) -> Call[tuple[tuple[NotebookInfo, ...], bool]]:
    """Notebooks of the caller behind a name, or the first; and whether there are more."""
    parse = _one(
        "notebooks",
        lambda fields: (fields.structs("notebooks", parse_notebook), fields.optional_flag("more")),
    )
    return Call("notebooks" if after is None else {"notebooks_after": {"after": after}}, parse)


def status(notebook: str) -> Call[NotebookStatus]:
    """One notebook in full."""
    return Call({"status": {"notebook": notebook}}, _one("status", parse_status))


def doctor() -> Call[tuple[DoctorLine, ...]]:
    """What the host can enforce."""
    return Call("doctor", _one("doctor", lambda fields: fields.structs("checks", parse_doctor_line)))


def profiles() -> Call[tuple[ProfileInfo, ...]]:
    """The profiles that a notebook can be opened with."""
    return Call("profiles", _one("profiles", lambda fields: fields.structs("profiles", parse_profile)))


def warm() -> Call[tuple[WarmInfo, ...]]:
    """Zygotes and spares, by profile."""
    return Call("warm", _one("warm", lambda fields: fields.structs("profiles", parse_warm)))


def plan(profile: str | None) -> Call[tuple[Step, ...]]:
    """The steps that make a sandbox of a profile."""
    parse = _one("plan", lambda fields: fields.structs("steps", parse_step))
    return Call({"plan": {"profile": profile}}, parse)


def shutdown() -> Call[None]:
    """Ends cellblockd."""
    return Call("shutdown", _done)


def pin(notebook: str, *, pinned: bool) -> Call[NotebookInfo]:
    """Keeps the worker, or lets it be evicted."""
    return Call({"pin": {"notebook": notebook, "pinned": pinned}}, _one("notebook", parse_notebook))


def evict(notebook: str) -> Call[None]:
    """Saves the variables and ends the worker."""
    return Call({"evict": {"notebook": notebook}}, _done)


def drain(seconds: int | None) -> Call[Drained]:
    """Takes nothing new, lets what runs end, and ends cellblockd."""
    return Call({"drain": {"seconds": seconds}}, _one("drained", parse_drained))


def metrics() -> Call[str]:
    """Figures of the daemon in Prometheus' text format."""

    def parse_reply(name: str, _content: object, payload: bytes) -> str:
        _expect("metrics", name)
        return payload.decode()

    return Call("metrics", parse_reply)


def overview() -> Call[Overview]:
    """The daemon and all notebooks of all tenants."""
    return Call("overview", _one("overview", parse_overview))


def tenants() -> Call[tuple[TenantInfo, ...]]:
    """The tenants, what they may use and what they use."""
    return Call("tenants", _one("tenants", lambda fields: fields.structs("tenants", parse_tenant)))


def complete(notebook: str, code: str, cursor: int | None) -> Call[Completions]:
    """What could stand at the cursor."""
    at = len(code) if cursor is None else cursor
    return _query(notebook, {"complete": {"cursor": at}}, "complete", parse_completions, code)


def inspect(notebook: str, code: str, cursor: int | None, detail: int) -> Call[Bundle | None]:
    """What stands at the cursor."""
    at = len(code) if cursor is None else cursor
    return _query(notebook, {"inspect": {"cursor": at, "detail": detail}}, "inspect", parse_inspection, code)


def is_complete(notebook: str, code: str) -> Call[IsComplete]:
    """Whether code is a whole statement."""
    return _query(notebook, "is_complete", "is_complete", parse_is_complete, code)


def history(notebook: str, last: int) -> Call[tuple[tuple[int, str], ...]]:
    """The last inputs, oldest first."""
    return _query(notebook, {"history": {"last": last}}, "history", parse_history)


def variables(notebook: str) -> Call[tuple[VariableInfo, ...]]:
    """The names in the namespace, and their values in short."""
    return _query(notebook, "variables", "variables", parse_variables)


def list_files(notebook: str, path: str) -> Call[Listing]:
    """The names in a folder."""
    return Call({"list_files": {"notebook": notebook, "path": path}}, _one("files", parse_listing))


def read_file(notebook: str, path: str, offset: int, size: int) -> Call[FilePart]:
    """A part of a file."""

    def parse_reply(name: str, content: object, payload: bytes) -> FilePart:
        _expect("file", name)
        return parse_part(Fields(name, content), payload)

    message = {"notebook": notebook, "path": path, "offset": offset, "bytes": size}
    return Call({"read_file": message}, parse_reply)


def write_file(notebook: str, path: str, offset: int, part: bytes) -> Call[None]:
    """A part into a file."""
    return Call({"write_file": {"notebook": notebook, "path": path, "offset": offset}}, _done, part)


def remove_file(notebook: str, path: str) -> Call[None]:
    """A file, or a folder with all that is in it."""
    return Call({"remove_file": {"notebook": notebook, "path": path}}, _done)


def checkpoint(notebook: str) -> Call[Checkpoint]:
    """Saves the variables."""

    def parse_reply(name: str, content: object, _payload: bytes) -> Checkpoint:
        _expect("checkpoint", name)
        return parse_checkpoint(*variant(name, content))

    return Call({"checkpoint": {"notebook": notebook}}, parse_reply)


def checkpoints(notebook: str) -> Call[Checkpoints]:
    """The checkpoints kept."""
    return Call({"checkpoints": {"notebook": notebook}}, _one("checkpoints", parse_list))


def checkpoint_content(notebook: str, number: int | None) -> Call[CheckpointContent]:
    """What is in a checkpoint."""
    return _of_one("checkpoint_content", notebook, number, _one("checkpoint_content", parse_content))


def restore(notebook: str, number: int | None) -> Call[Restored]:
    """A new worker with the variables of a checkpoint."""
    return _of_one("restore", notebook, number, _one("restored", parse_restored))


def fork(notebook: str, number: int | None, to: str) -> Call[NotebookInfo]:
    """A new notebook that begins with the variables of a checkpoint."""
    message = {"notebook": notebook, "checkpoint": number, "to": to}
    return Call({"fork": message}, _one("notebook", parse_notebook))


def export_checkpoint(notebook: str, number: int | None) -> Call[bytes | None]:
    """A checkpoint as a file: its parts, then None."""

    def parse_reply(name: str, _content: object, payload: bytes) -> bytes | None:
        if name == "part":
            return payload
        _expect("done", name)
        return None

    return _of_one("export_checkpoint", notebook, number, parse_reply)


def import_checkpoint(notebook: str, offset: int, part: bytes, *, last: bool) -> Call[int | None]:
    """A part of an exported checkpoint; the last one is answered with its number in this notebook."""

    def parse_reply(name: str, content: object, _payload: bytes) -> int | None:
        _expect("imported" if last else "done", name)
        return Fields(name, content).integer("checkpoint") if last else None

    message = {"notebook": notebook, "offset": offset, "last": last}
    return Call({"import_checkpoint": message}, parse_reply, part)


def verify_checkpoints(notebook: str, number: int | None) -> Call[tuple[Verified, ...]]:
    """Reads every byte of one checkpoint, or of all."""
    parse = _one("verified", lambda fields: fields.structs("checkpoints", parse_verified))
    return _of_one("verify_checkpoints", notebook, number, parse)


def collect_checkpoints(
    notebook: str, keep_last: int | None, keep_daily: int | None, max_bytes: int | None
) -> Call[Collected]:
    """Removes the checkpoints that a rule does not keep."""
    message = {"notebook": notebook, "keep": keep_rule(keep_last, keep_daily, max_bytes)}
    return Call({"collect_checkpoints": message}, _one("collected", parse_collected))


def clear(notebook: str) -> Call[None]:
    """Ends the worker and removes all its checkpoints."""
    return Call({"clear": {"notebook": notebook}}, _done)


def events(notebook: str | None, *, all_tenants: bool = False) -> Call[Event | None]:
    """What happens from now on: None when it is listened for, then events without end."""

    def parse_reply(name: str, content: object, _payload: bytes) -> Event | None:
        if name == "listening":
            return None
        _expect("event", name)
        return parse_event(content)

    return Call({"events": {"notebook": notebook, "all": all_tenants}}, parse_reply)


def _of_one(
    name: str, notebook: str, number: int | None, parse: Callable[[str, object, bytes], T]
) -> Call[T]:
    return Call({name: {"notebook": notebook, "checkpoint": number}}, parse)


def _one(expected: str, parse: Callable[[Fields], T]) -> Callable[[str, object, bytes], T]:
    def parse_reply(name: str, content: object, _payload: bytes) -> T:
        _expect(expected, name)
        return parse(Fields(name, content))

    return parse_reply


def _done(name: str, _content: object, _payload: bytes) -> None:
    _expect("done", name)


def _query(
    notebook: str,
    query: dict[str, object] | str,
    expected: str,
    parse: Callable[[Fields, bytes], T],
    code: str = "",
) -> Call[T]:
    def parse_reply(name: str, content: object, payload: bytes) -> T:
        _expect("answer", name)
        kind, answer = variant("answer", content)
        if kind == "busy":
            raise Busy(f"an Execution is running in notebook `{notebook}`: ask again when it has ended")
        _expect(expected, kind)
        return parse(Fields(kind, answer), payload)

    return Call({"query": {"notebook": notebook, "query": query}}, parse_reply, code.encode())


def _expect(expected: str, name: str) -> None:
    if name != expected:
        raise ProtocolError(f"the answer is `{name[:40]}`, expected was `{expected}`")
