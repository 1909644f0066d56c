"""The plug-in of the client's `ExecutionService`: initial names, the seed, the checks, the capture of a run.

`plugin.py` is where a run begins and ends; `capture.py` has what is shown while it goes on, `remains.py`
what it leaves behind; `convert.py` says what becomes of an object; `source.py` checks the code.
"""

from .plugin import ExecutionService

__all__ = ["ExecutionService"]
