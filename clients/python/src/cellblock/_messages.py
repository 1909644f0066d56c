"""Outputs: the pieces of result that an Execution puts out while it runs.

They are Jupyter's, but bytes are bytes: a PNG is not base64, and text is decoded by whoever needs it.
Ends and Outcomes are in `_outcome.py`, what is known about notebooks in `_status.py`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from ._exceptions import ProtocolError
from ._fields import Fields, unknown, variant

StreamName: TypeAlias = Literal["stdout", "stderr"]
NoticeTopic: TypeAlias = Literal["variables_lost", "degraded", "disk_full", "workspace_closed"]

METADATA_CONTAINERS: Final = 10_000
"""Objects and lists in a bundle's metadata; with more it is nobody's honest one."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Several representations of one thing, by mime type, in the order in which they were made."""

    parts: dict[str, bytes]
    metadata: dict[str, Any]

    def __contains__(self, mime: str) -> bool:
        return mime in self.parts

    def __getitem__(self, mime: str) -> bytes:
        return self.parts[mime]

    def text(self, mime: str = "text/plain") -> str:
        """A representation as text."""
        return self.parts[mime].decode("utf-8", "replace")

    def json(self, mime: str = "application/json") -> Any:
        """A JSON representation as Python objects."""
        return json.loads(self.parts[mime])

    def as_jupyter(self) -> dict[str, Any]:
        """The `data` of a Jupyter message: text as str, JSON as objects, images as base64."""
        return {mime: self._jupyter(mime) for mime in self.parts}

    def _jupyter(self, mime: str) -> Any:
        # `.json`: as Altair's `application/vnd.vegalite.v6.json`.
        if mime == "application/json" or mime.endswith(("+json", ".json")):
            return self.json(mime)
        if mime.startswith("image/") and mime != "image/svg+xml":
            return base64.b64encode(self.parts[mime]).decode("ascii")
        return self.text(mime)


@dataclass(frozen=True, slots=True)
class Stream:
    """Text as it was written to stdout or stderr, by Python, C or a subprocess."""

    seq: int
    name: StreamName
    data: bytes

    @property
    def text(self) -> str:
        """The text; a piece ends inside a character only when the program wrote it so."""
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Display:
    """Something displayed; with `update`, instead of what was displayed under `display_id`."""

    seq: int
    bundle: Bundle
    display_id: str | None
    update: bool


@dataclass(frozen=True, slots=True)
class Result:
    """The value of the last expression, `Out[execution_count]`."""

    seq: int
    bundle: Bundle
    execution_count: int


@dataclass(frozen=True, slots=True)
class ErrorFrame:
    """One line of a stack; `line` is the cell's own when `execution` says whose cell it is."""

    execution: str | None
    file: str
    line: int
    function: str
    code: str | None


@dataclass(frozen=True, slots=True)
class Cause:
    """An exception behind the exception, raised `from` it (`explicit`) or while handling it."""

    name: str
    value: str
    explicit: bool
    frames: tuple[ErrorFrame, ...]


@dataclass(frozen=True, slots=True)
class Error:
    """The exception that ended the code. `traceback` is for terminals, with ANSI colours."""

    seq: int
    name: str
    value: str
    traceback: tuple[str, ...]
    frames: tuple[ErrorFrame, ...]
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class ClearOutput:
    """Forget what was put out so far; with `wait`, when the next output arrives."""

    seq: int
    wait: bool


@dataclass(frozen=True, slots=True)
class InputRequest:
    """The code called `input()` and waits for an answer."""

    seq: int
    prompt: str
    password: bool


@dataclass(frozen=True, slots=True)
class Truncated:
    """Output is missing here: a cap was reached, or nobody read for too long."""

    seq: int
    stream: StreamName | None
    dropped_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something cellblock has to say, one sentence for people."""

    seq: int
    topic: NoticeTopic
    text: str
    names: tuple[str, ...]


Output: TypeAlias = Stream | Display | Result | Error | ClearOutput | InputRequest | Truncated | Notice


def parse_output(seq: int, value: object, payload: bytes) -> Output:
    """An output from its JSON and the frame's payload."""
    name, content = variant("output", value)
    fields = Fields(name, content)
    match name:
        case "stream":
            return Stream(seq, _stream_name(fields.text("name")), payload)
        case "display":
            bundle = parse_bundle(fields.fields("bundle"), payload)
            return Display(seq, bundle, fields.optional_text("display_id"), fields.flag("update"))
        case "result":
            bundle = parse_bundle(fields.fields("bundle"), payload)
            return Result(seq, bundle, fields.integer("execution_count"))
        case "error":
            frames = fields.structs("frames", _error_frame)
            causes = fields.structs("causes", _cause)
            traceback = fields.texts("traceback")
            return Error(seq, fields.text("name"), fields.text("value"), traceback, frames, causes)
        case "clear_output":
            return ClearOutput(seq, fields.flag("wait"))
        case "input_request":
            return InputRequest(seq, fields.text("prompt"), fields.flag("password"))
        case "truncated":
            stream = fields.optional_text("stream")
            which = None if stream is None else _stream_name(stream)
            return Truncated(seq, which, fields.integer("dropped_bytes"), fields.text("reason"))
        case "notice":
            topic = fields.text("topic")
            if topic not in get_args(NoticeTopic):
                raise unknown("notice topic", topic)
            return Notice(seq, cast(NoticeTopic, topic), fields.text("text"), fields.texts("names"))
        case _:
            raise unknown("output", name)


def parse_bundle(fields: Fields, payload: bytes) -> Bundle:
    """A bundle whose bytes lie in the payload."""
    parts = dict(
        fields.structs("parts", lambda part: (part.text("mime"), _slice(part.fields("span"), payload)))
    )
    span = fields.optional_fields("metadata")
    return Bundle(parts, {} if span is None else _metadata(_slice(span, payload)))


def _metadata(text: bytes) -> dict[str, Any]:
    """What nobody between the worker and us has read: a fault there costs the metadata, not the Execution."""
    # A few bytes of JSON (`[],[],…`) can stand for thirty times as many in memory.
    if text.count(b"[") + text.count(b"{") > METADATA_CONTAINERS:
        return {}
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _slice(span: Fields, payload: bytes) -> bytes:
    offset, length = span.integer("offset"), span.integer("length")
    if offset < 0 or length < 0 or offset + length > len(payload):
        raise ProtocolError(
            f"a span of {length} bytes at {offset} lies outside the payload of {len(payload)} bytes"
        )
    return payload[offset : offset + length]


def _stream_name(name: str) -> StreamName:
    if name not in ("stdout", "stderr"):
        raise unknown("stream", name)
    return cast(StreamName, name)


def _error_frame(fields: Fields) -> ErrorFrame:
    return ErrorFrame(
        execution=fields.optional_text("execution"),
        file=fields.text("file"),
        line=fields.integer("line"),
        function=fields.text("function"),
        code=fields.optional_text("code"),
    )


def _cause(fields: Fields) -> Cause:
    frames = fields.structs("frames", _error_frame)
    return Cause(fields.text("name"), fields.text("value"), fields.flag("explicit"), frames)
