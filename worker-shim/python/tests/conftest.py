"""Fixtures: a worker for one test, and one that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Worker, ensure_library


@pytest.fixture(scope="session", autouse=True)
def _library() -> None:
    ensure_library()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """A worker of this test's own."""
    running = Worker(cwd=tmp_path)
    yield running
    running.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker for tests that leave nothing behind."""
    running = Worker(cwd=tmp_path_factory.mktemp("workspace"))
    yield running
    running.close()
