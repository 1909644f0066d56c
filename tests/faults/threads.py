"""Threads that work together, and threads that work beside others."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial


def together(works: Sequence[Callable[[], None]]) -> None:
    """Each in a thread of its own, until all are done; raises what one of them has raised."""
    raised: list[BaseException] = []
    threads = [threading.Thread(target=_kept(work, raised)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


@contextlib.contextmanager
def beside(name: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """In a thread of that name, told by the event when to stop, and waited for; raises what it has raised."""
    stop = threading.Event()
    raised: list[BaseException] = []
    thread = threading.Thread(target=_kept(partial(work, stop), raised), name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if raised:
        raise raised[0]


def _kept(work: Callable[[], None], raised: list[BaseException]) -> Callable[[], None]:
    """A thread that dies tells nobody but standard error."""

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    return run
