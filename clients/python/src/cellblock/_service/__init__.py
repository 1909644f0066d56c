"""The drop-in for the in-process `ExecutionService`: its calls and results, over cellblock's public requests.

What is asked is in `tasks.py`, what is made of the outputs begins in `assembly.py`; who waits for what is
in `blocking.py` and `asynchronous.py`. In the worker a plug-in, `execution_service`, captures what the
general API has no word for; it is sent along with each request.
"""

from .asynchronous import AsyncExecutionService
from .blocking import ExecutionService
from .errors import UnknownVariable
from .result import ExecutionResult, ExecutionStatus

__all__ = [
    "AsyncExecutionService",
    "ExecutionResult",
    "ExecutionService",
    "ExecutionStatus",
    "UnknownVariable",
]
