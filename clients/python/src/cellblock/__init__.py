"""Client of cellblock: notebook code run in isolated Python workers.

::

    import cellblock

    with cellblock.Client.connect() as client:
        notebook = client.open("analysis")
        for output in notebook.execute("print('hello'); 6 * 7"):
            print(output)
"""

from ._asyncio import AsyncClient, AsyncExecution, AsyncNotebook
from ._client import Client, Notebook
from ._exceptions import (
    BadProfile,
    BadRequest,
    Busy,
    CellblockError,
    ConnectError,
    ConnectionLost,
    ExecutionFailed,
    Forbidden,
    FrameError,
    InternalFault,
    InterpreterProblem,
    ProtocolError,
    RequestRefused,
    SandboxProblem,
    ShuttingDown,
    StorageProblem,
    SupervisorNotRunning,
    SupervisorStartFailed,
    Timeout,
    TooLarge,
    UnknownExecution,
    UnknownNotebook,
    Unsupported,
    VersionMismatch,
)
from ._execution import Execution
from ._local import LocalSupervisor
from ._messages import (
    Bundle,
    Cause,
    ClearOutput,
    Display,
    Error,
    ErrorFrame,
    InputRequest,
    Notice,
    Output,
    Result,
    Stream,
    Truncated,
)
from ._outcome import (
    Cancelled,
    Completed,
    End,
    ExpressionError,
    Interrupted,
    LimitHit,
    NameChanges,
    NameInfo,
    Ok,
    Outcome,
    Raised,
    TimedOut,
    WorkerDied,
)
from ._profiles import ProfileInfo, Step
from ._requests import ExecuteOptions
from ._status import (
    BarrierReport,
    Completions,
    DoctorLine,
    IsComplete,
    Match,
    NotebookInfo,
    NotebookStatus,
)
from ._version import __version__

__all__ = [
    "AsyncClient",
    "AsyncExecution",
    "AsyncNotebook",
    "BadProfile",
    "BadRequest",
    "BarrierReport",
    "Bundle",
    "Busy",
    "Cancelled",
    "Cause",
    "CellblockError",
    "ClearOutput",
    "Client",
    "Completed",
    "Completions",
    "ConnectError",
    "ConnectionLost",
    "Display",
    "DoctorLine",
    "End",
    "Error",
    "ErrorFrame",
    "ExecuteOptions",
    "Execution",
    "ExecutionFailed",
    "ExpressionError",
    "Forbidden",
    "FrameError",
    "InputRequest",
    "InternalFault",
    "InterpreterProblem",
    "Interrupted",
    "IsComplete",
    "LimitHit",
    "LocalSupervisor",
    "Match",
    "NameChanges",
    "NameInfo",
    "Notebook",
    "NotebookInfo",
    "NotebookStatus",
    "Notice",
    "Ok",
    "Outcome",
    "Output",
    "ProfileInfo",
    "ProtocolError",
    "Raised",
    "RequestRefused",
    "Result",
    "SandboxProblem",
    "ShuttingDown",
    "Step",
    "StorageProblem",
    "Stream",
    "SupervisorNotRunning",
    "SupervisorStartFailed",
    "TimedOut",
    "Timeout",
    "TooLarge",
    "Truncated",
    "UnknownExecution",
    "UnknownNotebook",
    "Unsupported",
    "VersionMismatch",
    "WorkerDied",
    "__version__",
]
