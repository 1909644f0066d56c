"""The protocol without I/O: what both clients do with the bytes they send and receive.

`Session` is one connection (Hello, request ids, replies), `Progress` is one Execution as far as it
has been read (numbers contiguous, one Outcome), `Patience` decides how long to try to get back.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

from . import _requests as requests
from ._exceptions import (
    CellblockError,
    ConnectError,
    ConnectionLost,
    ProtocolError,
    RequestRefused,
    ShuttingDown,
    SupervisorNotRunning,
    Timeout,
    TooLarge,
    VersionMismatch,
)
from ._fields import Fields, parse_json, variant
from ._frames import META_LIMIT_BYTES, PAYLOAD_LIMIT_BYTES, Codec, Frame, FrameReader, Kind
from ._messages import Output, Truncated, parse_output
from ._outcome import Outcome, parse_outcome
from ._status import NotebookInfo
from ._version import __version__

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1

# Made once: json.dumps with other separators makes one each time, which is most of its cost here.
_encode_json: Final = json.JSONEncoder(separators=(",", ":")).encode


class Default(Enum):
    """Stands for "as the client was told to"."""

    DEFAULT = "default"


DEFAULT: Final = Default.DEFAULT
Wait: TypeAlias = float | Default | None
"""Seconds, or None for ever, or the client's own timeout."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply taken apart, its content still JSON."""

    name: str
    content: object
    payload: bytes
    is_last: bool


class Session:
    """One connection, serving one request at a time."""

    def __init__(self, tenant: str | None = None) -> None:
        self._tenant = tenant
        self.server = ""
        """The server's build, after `greet`."""
        self._reader = FrameReader()
        self._request = 0
        self._meta_limit = META_LIMIT_BYTES
        self._payload_limit = PAYLOAD_LIMIT_BYTES

    def hello(self) -> bytes:
        """The first bytes to send."""
        hello = {
            "min_version": PROTOCOL_MIN,
            "max_version": PROTOCOL_MAX,
            "codec": "json",
            "client": f"cellblock-python {__version__}",
            "tenant": self._tenant,
        }
        return self.request({"hello": hello})

    def greet(self, reply: Reply) -> None:
        """Takes the answer to `hello`."""
        if reply.name != "hello":
            raise ProtocolError(f"the answer to hello is `{reply.name[:40]}`")
        fields = Fields("hello", reply.content)
        version, codec = fields.integer("version"), fields.text("codec")
        if not PROTOCOL_MIN <= version <= PROTOCOL_MAX:
            raise VersionMismatch(
                f"cellblockd chose protocol version {version}, "
                f"this client speaks {PROTOCOL_MIN} to {PROTOCOL_MAX}"
            )
        if codec != "json":
            raise ProtocolError(f"cellblockd chose the codec `{codec[:40]}`, asked for was `json`")
        self.server = fields.text("server")
        self._meta_limit = fields.integer("meta_bytes")
        self._payload_limit = fields.integer("payload_bytes")

    def request(self, meta: object, payload: bytes = b"") -> bytes:
        """The bytes of a request under the next id."""
        encoded = _encode_json(meta).encode()
        for part, found, limit in (
            ("meta", len(encoded), self._meta_limit),
            ("payload", len(payload), self._payload_limit),
        ):
            if found > limit:
                raise TooLarge(f"request too large: {part} of {found} bytes, the limit is {limit} bytes")
        # 32 bits on the wire, and never 0.
        self._request = self._request % 0xFFFF_FFFF + 1
        return Frame(Kind.REQUEST, Codec.JSON, 0, self._request, encoded, payload).encode()

    def feed(self, data: bytes | memoryview) -> None:
        """Takes bytes as they came from the socket."""
        self._reader.feed(data)

    def next_reply(self) -> Reply | None:
        """The next reply to the request under way, or None until more bytes are fed.

        An error reply is raised as what it means.
        """
        frame = self._reader.next_frame()
        if frame is None:
            return None
        if frame.kind is not Kind.REPLY or frame.codec is not Codec.JSON:
            raise ProtocolError(
                f"a {frame.codec.name} {frame.kind.name} came where a JSON REPLY was expected"
            )
        name, content = variant("reply", parse_json(frame.meta))
        if name == "error":
            fields = Fields(name, content)
            code, message = fields.text("code"), fields.text("message")
            # Request 0: the connection itself is refused, whatever was asked.
            if frame.request in (0, self._request):
                if code == "version":
                    raise VersionMismatch(message)
                refused = RequestRefused.of(code, message)
                if (hint := fields.optional_fields("hint")) is not None:
                    refused.retry_seconds = hint.integer("retry_ms") / 1000
                    refused.position = hint.optional_integer("position")
                raise refused
        if frame.request != self._request:
            raise ProtocolError(f"`{name[:40]}` answers request {frame.request}, asked was {self._request}")
        return Reply(name, content, frame.payload, frame.is_last)

    def lost(self, cause: str = "cellblockd closed it") -> ConnectionLost:
        """The exception for the end of the connection."""
        torn = self._reader.pending_bytes
        return ConnectionLost(f"connection lost: {cause}" + (" in the middle of a frame" if torn else ""))


class Progress:
    """One Execution as far as it has been read."""

    def __init__(
        self,
        notebook: str,
        execution_id: str,
        *,
        execute: dict[str, object] | None = None,
        code: bytes = b"",
        profile: str | None = None,
        next_seq: int = 0,
    ) -> None:
        self.notebook = notebook
        self.execution_id = execution_id
        self.next_seq = next_seq
        self.accepted = False
        self.held_up: CellblockError | None = None
        """Why the last attempt came to nothing, until something comes again."""
        self.outcome: Outcome | None = None
        self._execute = execute
        self._code = code
        self._profile = profile
        self._began = False

    def opening(self) -> requests.Call[NotebookInfo] | None:
        """What must be asked on a connection before `start`.

        A cellblockd that was restarted may not know the notebook: when it never accepted the Execution,
        or when no worker of the notebook is left. What came of the Execution is found with the notebook.
        """
        if self._began and self._execute is not None:
            return requests.open_notebook(self.notebook, self._profile)
        return None

    def start(self) -> tuple[dict[str, object], bytes]:
        """What to send on a connection to read from `next_seq` on.

        Before it was accepted nothing is known to be held for us, so it is `execute` under the
        same id, which never runs it twice; after that it is `attach`.
        """
        self._began = True
        if self._execute is not None and self._executes_again:
            return self._execute, self._code
        return requests.attach(self.notebook, self.execution_id, self.next_seq), b""

    @property
    def _executes_again(self) -> bool:
        return self._execute is not None and not self.accepted

    def receive(self, reply: Reply) -> Output | Outcome | None:
        """Takes the next reply; None when it was `accepted`."""
        fields = Fields(reply.name, reply.content)
        if (execution := fields.text("execution")) != self.execution_id:
            raise ProtocolError(
                f"`{reply.name[:40]}` is about Execution `{execution[:64]}`, not `{self.execution_id}`"
            )
        if reply.is_last != (reply.name == "outcome"):
            raise ProtocolError(f"`{reply.name[:40]}` has the flag of a last frame wrong")
        self.held_up = None
        match reply.name:
            case "accepted":
                self.accepted = True
                return None
            case "output":
                return self._output(fields, reply.payload)
            case "outcome":
                return self._end(fields, reply.payload)
            case other:
                raise ProtocolError(f"`{other[:40]}` came among the outputs of an Execution")

    def _output(self, fields: Fields, payload: bytes) -> Output:
        seq = fields.integer("seq")
        name, content = fields.variant("output")
        output = parse_output(seq, {name: content}, payload)
        # A mark bears the number of the last output that it stands for.
        if seq < self.next_seq or (seq > self.next_seq and not isinstance(output, Truncated)):
            wrong = "was seen already" if seq < self.next_seq else f"came, {self.next_seq} is missing"
            raise ProtocolError(f"output {seq} of Execution `{self.execution_id}` {wrong}")
        self.next_seq = seq + 1
        return output

    def _end(self, fields: Fields, payload: bytes) -> Outcome:
        outputs = fields.integer("outputs")
        if outputs != self.next_seq:
            raise ProtocolError(
                f"Execution `{self.execution_id}` had {outputs} outputs, {self.next_seq} of them came"
            )
        self.outcome = parse_outcome(fields.fields("outcome"), payload)
        return self.outcome

    def unfinished(self) -> str:
        """What a timeout says of it, as far as we know: only what was accepted goes on without us."""
        if not self._executes_again:
            return f"Execution `{self.execution_id}` goes on: it has not ended"
        cause = "" if self.held_up is None else f" ({self.held_up})"
        return f"Execution `{self.execution_id}` was not accepted yet{cause}: it has not ended"

    def lost(self, cause: CellblockError) -> CellblockError:
        """The exception for an end of the connection from which we do not come back by ourselves."""
        if isinstance(cause, RequestRefused):
            return cause
        if self._executes_again:
            again = f"execute(execution_id={self.execution_id!r})"
            advice = f"it was not accepted yet: `reattach()`, or {again}, never runs it twice"
        else:
            again = f"attach({self.execution_id!r}, from_seq={self.next_seq})"
            advice = f"it goes on: `reattach()`, or {again}, reads the rest"
        message = f"Execution `{self.execution_id}` of notebook `{self.notebook}`: {cause}; {advice}"
        return ConnectionLost(message, execution_id=self.execution_id, next_seq=self.next_seq)


RETRYABLE: Final = (ConnectionLost, ConnectError, ShuttingDown)
"""What a restart of cellblockd looks like from here."""


class Patience:
    """How long to try to get back after the connection is lost, and how often."""

    _FIRST_DELAY_SECONDS: Final = 0.01
    _LONGEST_DELAY_SECONDS: Final = 0.25

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None
        self._delay = self._FIRST_DELAY_SECONDS

    def delay(self) -> float | None:
        """Seconds to wait before the next attempt; None when it is over."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        if now >= self._until:
            return None
        delay = min(self._delay, self._until - now)
        self._delay = min(self._delay * 2, self._LONGEST_DELAY_SECONDS)
        return delay

    def restore(self) -> None:
        """Forgets the loss: something came."""
        self._until = None
        self._delay = self._FIRST_DELAY_SECONDS


class Deadline:
    """A moment after which waiting ends with `Timeout`; `what` begins its sentence, as it is by then."""

    def __init__(self, seconds: float | None, what: str | Callable[[], str]) -> None:
        self._seconds = seconds
        self._at = None if seconds is None else time.monotonic() + seconds
        self._what = what

    def remaining(self) -> float | None:
        """Seconds left, None for ever; raises when there are none."""
        if self._at is None:
            return None
        left = self._at - time.monotonic()
        if left <= 0:
            raise self.timeout()
        return left

    def timeout(self) -> Timeout:
        """The exception."""
        what = self._what if isinstance(self._what, str) else self._what()
        return Timeout(f"{what} within {self._seconds:g} s")

    def sooner(self, other: Deadline) -> Deadline:
        """The one that ends first."""
        if self._at is None or (other._at is not None and other._at < self._at):
            return other
        return self


LONGEST_PATH_BYTES: Final = 107
"""Of a Unix socket on Linux: `sun_path` of unix(7) less its NUL."""


def choose_socket(given: str | os.PathLike[str] | None) -> Path:
    """The socket to connect to: as given, else `CELLBLOCK_SOCKET`, else the first that exists of the
    system's and the user's own."""
    if given is None:
        given = os.environ.get("CELLBLOCK_SOCKET") or None
    if given is not None:
        path = Path(given)
        if (length := len(os.fsencode(path))) > LONGEST_PATH_BYTES:
            raise ConnectError(
                f"socket path of {length} bytes, {LONGEST_PATH_BYTES} is the longest there can be: `{path}`"
            )
        return path
    candidates = [Path("/run/cellblock/cellblockd.sock")]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        candidates.append(Path(runtime, "cellblock", "cellblockd.sock"))
    for path in candidates:
        if path.exists():
            return path
    tried = ", ".join(f"`{path}`" for path in candidates)
    raise SupervisorNotRunning(f"no cellblockd: no socket at {tried}; {_CURE}")


_CURE: Final = "start cellblockd, or use cellblock.LocalSupervisor for a private one"


def connect_error(path: Path, error: OSError) -> ConnectError:
    """The exception for a connect(2) that failed."""
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return SupervisorNotRunning(f"no cellblockd listens at `{path}`; {_CURE}")
        case PermissionError():
            return ConnectError(f"no permission to use `{path}`: ask for membership of its group")
        case _:
            return ConnectError(f"failed to connect to `{path}`: {error}")
