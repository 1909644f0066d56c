"""Everything that can go wrong, as one tree.

CellblockError
├── ConnectError                 no connection could be made
│   ├── SupervisorNotRunning     nobody listens at the socket
│   └── SupervisorStartFailed    `LocalSupervisor` could not start one
├── ConnectionLost               the connection ended under an operation; says how to go on
├── ProtocolError                the other side does not speak the protocol
│   ├── FrameError               bytes that are not a frame
│   └── VersionMismatch          no common protocol version
├── RequestRefused               cellblockd answered with an error; `.code` is for programs
│   ├── BadRequest, TooLarge, UnknownNotebook, UnknownExecution, BadProfile
│   ├── InterpreterProblem, SandboxProblem, StorageProblem, FileProblem, CheckpointProblem
│   └── Forbidden, Unsupported, Busy, ShuttingDown, InternalFault
├── ValueProblem                 a value could not be put or got; `.code` is for programs
│   ├── UnknownName, BadName, BadValue
│   └── CannotCross, ValueTooLarge, MissingPackage
├── UnknownVariable              of an ExecutionService; also a `KeyError`
├── Timeout                      the caller's own `timeout=` is over (also a `TimeoutError`)
└── ExecutionFailed              from `raise_for_error()`: the code did not end well

That user code raised is no exception here: it is an Outcome. Only `raise_for_error()` makes it one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ._messages import Error
    from ._outcome import Outcome


class CellblockError(Exception):
    """Whatever this package raises."""


class ConnectError(CellblockError):
    """No connection could be made."""


class SupervisorNotRunning(ConnectError):
    """Nobody listens at the socket."""


class SupervisorStartFailed(ConnectError):
    """A private cellblockd could not be started."""


class ConnectionLost(CellblockError):
    """The connection ended under an operation.

    When that was an Execution, it goes on without us: `execution_id` and `next_seq` are what
    `Notebook.attach` needs to read the rest.
    """

    def __init__(self, message: str, *, execution_id: str | None = None, next_seq: int | None = None) -> None:
        super().__init__(message)
        self.execution_id = execution_id
        self.next_seq = next_seq


class ProtocolError(CellblockError):
    """The other side does not speak the protocol; nothing it says can be relied on."""


class FrameError(ProtocolError):
    """Bytes that are not a frame."""


class VersionMismatch(ProtocolError):
    """No common protocol version; the message names both ranges."""


class RequestRefused(CellblockError):
    """cellblockd answered with an error. The message names the thing and the cure."""

    code: str = ""
    """The code on the wire. A code that this release does not know is a plain `RequestRefused`."""

    retry_seconds: float | None = None
    """When to try again, of what is refused for now."""

    position: int | None = None
    """How many would be before it, where there is a line."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    _by_code: ClassVar[dict[str, type[RequestRefused]]] = {}

    def __init_subclass__(cls) -> None:
        RequestRefused._by_code[cls.code] = cls

    @staticmethod
    def of(code: str, message: str) -> RequestRefused:
        """The exception for a code."""
        return RequestRefused._by_code.get(code, RequestRefused)(message, code)


class BadRequest(RequestRefused):
    """The request makes no sense: malformed, out of order, an illegal id."""

    code = "bad_request"


class TooLarge(RequestRefused):
    """A frame, a code or a list above its limit."""

    code = "too_large"


class UnknownNotebook(RequestRefused):
    """No notebook of that name is open."""

    code = "unknown_notebook"


class UnknownExecution(RequestRefused):
    """No such Execution (any more)."""

    code = "unknown_execution"


class BadProfile(RequestRefused):
    """No profile of that name, or one that does not parse."""

    code = "bad_profile"


class InterpreterProblem(RequestRefused):
    """The interpreter is missing or lacks a package."""

    code = "interpreter"


class SandboxProblem(RequestRefused):
    """The sandbox could not be made; the message names the step."""

    code = "sandbox"


class StorageProblem(RequestRefused):
    """The disk is full or unwritable."""

    code = "storage"


class FileProblem(RequestRefused):
    """No such file in the workspace, or it is no file, or no folder, or a link."""

    code = "file"


class CheckpointProblem(RequestRefused):
    """No such checkpoint, or it is damaged, or the notebook's profile has none."""

    code = "checkpoint"


class Forbidden(RequestRefused):
    """The caller may not."""

    code = "forbidden"


class Unsupported(RequestRefused):
    """cellblock does not do this, on purpose."""

    code = "unsupported"


class Busy(RequestRefused):
    """Too much at once, or an Execution is running; try again."""

    code = "busy"


class ShuttingDown(RequestRefused):
    """cellblockd is going down."""

    code = "shutting_down"


class InternalFault(RequestRefused):
    """A fault of cellblock itself; its log has more."""

    code = "internal"


class ValueProblem(CellblockError):
    """A value could not be put into a notebook or got out of it. The message names it and the cure."""

    code: str = ""
    """The name on the wire."""

    _by_code: ClassVar[dict[str, type[ValueProblem]]] = {}

    def __init_subclass__(cls) -> None:
        ValueProblem._by_code[cls.code] = cls

    @staticmethod
    def of(code: str, message: str) -> ValueProblem:
        """The exception for a name; what user code raised on the way keeps its own in the message."""
        known = ValueProblem._by_code.get(code)
        return ValueProblem(f"{code}: {message}") if known is None else known(message)


class UnknownName(ValueProblem):
    """There is no variable of that name."""

    code = "UnknownName"


class BadName(ValueProblem):
    """Python cannot bind a name like that."""

    code = "BadName"


class BadValue(ValueProblem):
    """What was to be put is not what its format says."""

    code = "BadValue"


class CannotCross(ValueProblem):
    """The value, or a part of it that the message names, has no exact form in that format."""

    code = "CannotCross"


class ValueTooLarge(ValueProblem):
    """The value takes more bytes than one answer may have."""

    code = "TooLarge"


class MissingPackage(ValueProblem):
    """The format needs a package that the profile's environment lacks; the message says how to add it."""

    code = "MissingPackage"


class Timeout(CellblockError, TimeoutError):
    """The caller's own `timeout=` is over. What was asked for may still happen."""


class ExecutionFailed(CellblockError):
    """The code did not end well: `outcome` says how, `error` is its exception when there was one."""

    def __init__(self, message: str, *, outcome: Outcome, error: Error | None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.error = error
