"""Values in and out of a notebook without code.

A value crosses as JSON, or as the bytes of an Arrow IPC stream, which every Arrow library reads and writes::

    notebook.put_arrow("df", stream)
    table = pyarrow.ipc.open_stream(notebook.get_arrow("df")).read_all()

Both go through the notebook's queue like code, and are bounded like it.
"""

from __future__ import annotations

import json
from typing import Any

from ._exceptions import BadValue, ProtocolError, TooLarge, ValueProblem, ValueTooLarge
from ._messages import Display, Truncated
from ._outcome import Completed, Raised
from ._requests import Task, ValueFormat

MIME: dict[ValueFormat, str] = {
    "json": "application/json",
    "arrow": "application/vnd.apache.arrow.stream",
}


def task(verb: str, name: str, form: ValueFormat) -> Task:
    """The `Task` that puts or gets a value."""
    return {verb: {"name": name, "format": form}}


def json_payload(value: Any) -> bytes:
    """A value as JSON text; `BadValue` when it has no such form."""
    try:
        text = json.dumps(value, allow_nan=False)
        _check_keys(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadValue(f"the value has no JSON form: {error}") from None
    return text.encode()


def _check_keys(value: Any) -> None:
    """json makes texts of keys that are none, and two of them may become one."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            for key in item:
                if not isinstance(key, str):
                    raise TypeError(f"the key {key!r:.60} is no text")
            left.extend(item.values())
        elif isinstance(item, (list, tuple)):
            left.extend(item)


def check(completed: Completed) -> Completed:
    """Raises what kept a value from crossing, as its own exception."""
    end = completed.outcome.end
    if isinstance(end, Raised):
        raise ValueProblem.of(end.name, end.value)
    return completed.raise_for_error()


def too_large(name: str, refused: TooLarge) -> ValueTooLarge:
    """What a request says that is too large for one."""
    return ValueTooLarge(f"`{name}` cannot be put at once: {refused}; write it to a file of the workspace")


def content(completed: Completed, form: ValueFormat) -> bytes:
    """The value that an Execution has displayed."""
    for output in check(completed).outputs:
        if isinstance(output, Display) and MIME[form] in output.bundle:
            return output.bundle[MIME[form]]
    for output in completed.outputs:
        if isinstance(output, Truncated):
            raise ValueTooLarge(f"the value has {output.dropped_bytes} bytes, but {output.reason}")
    raise ProtocolError(f"no output of the answer is {MIME[form]}")


def parse_json(data: bytes) -> Any:
    """A value from the JSON that a worker wrote."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the value is not JSON: {error}") from error
