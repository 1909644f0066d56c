"""The drop-in is no second engine: the same cells say, raise and bind the same as through the general API."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pytest

from cellblock import Client, ExecutionService, Raised

CELLS = [
    "x = 41\nprint(x + 1)",
    "import sys\nprint('o')\nprint('e', file=sys.stderr)\nsys.stdout.write('no line end')",
    "import os, subprocess\nprint('py')\nos.write(1, b'fd\\n')\nsubprocess.run(['echo', 'sub'])",
    "def f(n):\n    return 1 / n\n\nclass A:\n    y: list[int] = []",
    "print(f(2), A().y)\nf(0)",
    "try:\n    {}['k']\nexcept KeyError as error:\n    raise ValueError('no k') from error",
    "del x\nz = [i for i in range(3)]",
    "x",
    "%env CELLBLOCK_TESTED=1\n!echo shell",
    "import asyncio\nawait asyncio.sleep(0)\nprint('awaited')",
    "if __name__ == '__main__':\n    print('main', __name__)",
    "1 + 1\n'no echo'",
    "raise SystemExit(3)",
    "for i in range(3):\n    print(i, end='\\r')",
    "import math as m\nfrom math import pi\nprint(m.pi == pi)",
    "raise Exception",
    "import no_such_package_here",
    "assert z == [0], z",
    "print('ä€😀', '\\udc80'.encode('utf-8', 'surrogatepass'))",
]


@dataclass
class Seen:
    """What a caller sees of a cell, whichever way it was run."""

    stdout: str
    error: tuple[str, str] | None
    lines: list[int]


@pytest.fixture
def notebooks(client: Client) -> list[str]:
    """Two fresh names."""
    return [f"engine-{uuid.uuid4().hex}" for _ in range(2)]


def test_the_same_cells_give_the_same_either_way(client: Client, notebooks: list[str]) -> None:
    through_service, _ = notebooks
    service = ExecutionService(client)
    opened = [client.open(name) for name in notebooks]
    seen: list[list[Seen]] = [[], []]
    for code in CELLS:
        result = service.execute_code(code, "c", through_service)
        error = None if result.error_type is None else (result.error_type, result.error_message or "")
        lines = [frame["line"] for frame in result.frames if frame["cell"]]
        seen[0].append(Seen(result.stdout, error, lines))

        completed = opened[1].execute(code, echo=False).result(timeout=60)
        end = completed.outcome.end
        error = (end.name, end.value) if isinstance(end, Raised) else None
        frames = completed.error.frames if completed.error else ()
        seen[1].append(Seen(completed.stdout, error, [frame.line for frame in frames if frame.execution]))
    for code, mine, theirs in zip(CELLS, *seen, strict=True):
        if mine.error is not None and "\n\nHINT:" in mine.error[1]:
            mine.error = (mine.error[0], mine.error[1].partition("\n\nHINT:")[0])
        assert mine == theirs, code
    names = [[name.name for name in notebook.variables()] for notebook in opened]
    assert names[0] == names[1]
    assert {"f", "A", "z", "pi", "m"} <= set(names[0])
    assert "x" not in names[0]
    for notebook in opened:
        notebook.delete()


def test_both_ways_lead_to_one_namespace(client: Client, notebooks: list[str]) -> None:
    service = ExecutionService(client)
    notebook = client.open(notebooks[0])
    notebook.execute("x = 1").result(timeout=60).raise_for_error()
    assert service.execute_code("print(x)\nx = 2", "c", notebooks[0]).stdout == "1\n"
    assert notebook.execute("print(x)").result(timeout=60).stdout == "2\n"
    notebook.delete()
