"""Fixtures: a worker for one test, and one that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Worker, ensure_library
from .zygote_start import Zygote

# Whose tests hold for a worker however it came to be, and are run with both.
BOTH = (
    "test_execution test_errors test_order test_interrupt test_editor test_rich test_rich_figures "
    "test_rich_charts test_service_run test_service_figures test_service_tables"
).split()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Says for each test which starts it is for."""
    if "start" in metafunc.fixturenames:
        is_both = metafunc.module.__name__.rpartition(".")[2] in BOTH
        metafunc.parametrize("start", ["exec", "fork"] if is_both else ["exec"], scope="module")


@pytest.fixture(scope="session", autouse=True)
def _library() -> None:
    ensure_library()


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """One for all tests."""
    running = Zygote(tmp_path_factory.mktemp("zygote"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def origin(start: str, request: pytest.FixtureRequest) -> Zygote | None:
    """What a test's workers are forked from."""
    if start == "exec":
        return None
    running: Zygote = request.getfixturevalue("zygote")
    return running


@pytest.fixture
def worker(tmp_path: Path, origin: Zygote | None) -> Iterator[Worker]:
    """A worker of this test's own."""
    running = Worker(cwd=tmp_path, zygote=origin)
    yield running
    running.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, origin: Zygote | None) -> Iterator[Worker]:
    """A worker for tests that leave nothing behind."""
    running = Worker(cwd=tmp_path_factory.mktemp("workspace"), zygote=origin)
    yield running
    running.close()
