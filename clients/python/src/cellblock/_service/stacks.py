"""An exception's stack as data and as text, in the standard library's form.

A cell's file is `<cell 3>`, its lines are its own. Frames of the worker's own code are left out: nobody
looks for his error there.
"""

from __future__ import annotations

import re
from typing import Any, Final

from cellblock._messages import Error, ErrorFrame

_OURS: Final = re.compile(r"cell-(\d{1,9})-[0-9a-f]{32}")
_WORKER_CODE: Final = "/cellblock_worker/"

_DIRECT: Final = "The above exception was the direct cause of the following exception:"
_DURING: Final = "During handling of the above exception, another exception occurred:"


def execution_id(number: int, unique: str) -> str:
    """The id of a notebook's cell of that number; `unique` is a UUID's hex digits."""
    return f"cell-{number}-{unique}"


def frame_dicts(error: Error) -> list[dict[str, Any]]:
    """The frames of the exception itself."""
    return [
        {
            "cell": _cell_number(frame),
            "file": _file(frame),
            "line": frame.line,
            "function": frame.function,
            "code": frame.code,
            "execution": frame.execution,
        }
        for frame in _shown(error.frames)
    ]


def traceback_text(error: Error, name: str, value: str) -> str:
    """The whole traceback of an error that is called `name: value`, with what it was caused by above it."""
    blocks: list[str] = []
    for cause in reversed(error.causes):
        blocks.append(_block(cause.frames, cause.name, cause.value))
        blocks.append(f"\n{_DIRECT if cause.explicit else _DURING}\n\n")
    return "".join([*blocks, _block(error.frames, name, value)])


def headline(name: str, value: str) -> str:
    """The last line of a traceback."""
    return f"{name}: {value}" if value else name


def _block(frames: tuple[ErrorFrame, ...], name: str, value: str) -> str:
    lines = [line for frame in _shown(frames) for line in _lines(frame)]
    if lines:
        lines.insert(0, "Traceback (most recent call last):")
    return "\n".join([*lines, headline(name, value)]) + "\n"


def _lines(frame: ErrorFrame) -> list[str]:
    if frame.line == 0 and frame.file == "…":
        return [f"  [{frame.function}]"]
    place = f'  File "{_file(frame)}", line {frame.line}, in {frame.function}'
    return [place] if frame.code is None else [place, f"    {frame.code}"]


def _shown(frames: tuple[ErrorFrame, ...]) -> list[ErrorFrame]:
    return [frame for frame in frames if _WORKER_CODE not in frame.file]


def _cell_number(frame: ErrorFrame) -> int | None:
    found = _OURS.fullmatch(frame.execution or "")
    return int(found[1]) if found else None


def _file(frame: ErrorFrame) -> str:
    if frame.execution is None:
        return frame.file
    number = _cell_number(frame)
    return f"<cell {frame.execution if number is None else number}>"
