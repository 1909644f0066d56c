"""Threads that work together, and threads that work beside others."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence


def together(works: Sequence[Callable[[], None]]) -> None:
    """Each in a thread of its own, until all are done."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def beside(name: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """In a thread of that name, which is told by the event when to stop, and waited for."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
