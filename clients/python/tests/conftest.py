"""What the end-to-end tests need, and what is said when it is not there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from cellblock import Client, LocalSupervisor, Notebook

NEEDED = {
    "CELLBLOCK_BIN_DIR": "the folder of the built programs",
    "CELLBLOCK_TEST_PYTHON": "a Python with IPython, pandas and matplotlib for the workers",
}


@pytest.fixture(scope="session")
def supervisor() -> Iterator[LocalSupervisor]:
    """A private cellblockd for all end-to-end tests."""
    if missing := [f"{name} ({what})" for name, what in NEEDED.items() if not os.environ.get(name)]:
        reason = f"not set: {', '.join(missing)}; `cargo xtask test` sets them"
        if os.environ.get("CELLBLOCK_REQUIRE") == "all":
            pytest.fail(reason)
        pytest.skip(reason)
    with LocalSupervisor(python=os.environ["CELLBLOCK_TEST_PYTHON"]) as running:
        yield running


@pytest.fixture
def client(supervisor: LocalSupervisor) -> Iterator[Client]:
    """A client of it."""
    with supervisor.client(timeout=60) as connected:
        yield connected


@pytest.fixture
def notebook(client: Client) -> Iterator[Notebook]:
    """A fresh notebook, deleted afterwards."""
    opened = client.open(f"t-{uuid.uuid4().hex}")
    yield opened
    opened.delete()
