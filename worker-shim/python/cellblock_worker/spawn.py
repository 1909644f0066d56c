"""Sees children, threads and C functions coming, so that text is put in order before they write."""

from __future__ import annotations

import _posixsubprocess
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from .interrupt import Interrupts
from .text import Text

_CHILD_EVENTS = frozenset(
    ["subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "pty.spawn"]
)


def watch(text: Text, interrupts: Interrupts) -> None:
    """Installs the hooks; an audit hook stays for the life of the process."""

    def audit(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in _CHILD_EVENTS:
            text.expect_child()
        elif event == "ctypes.dlopen" and _asked_by_user_code():
            text.expect_foreign()
        elif event == "_thread.start_new_thread" and text.bursting and not text.starting_burst:
            text.flush()

    sys.addaudithook(audit)

    # multiprocessing's spawn and forkserver come this way, without an audit event.
    fork_exec = _posixsubprocess.fork_exec

    def watched(*arguments: Any) -> Any:
        text.expect_child()
        return fork_exec(*arguments)

    _posixsubprocess.fork_exec = watched

    _watch_ends(text)
    _say_last_words(text)
    _keep_children(interrupts)

    start, run_down = threading.Thread.start, threading.Thread.join

    def started(self: threading.Thread) -> None:
        # Before: the thread may print at once.
        text.expect_threads(1)
        start(self)

    def joined(self: threading.Thread, timeout: float | None = None) -> None:
        run_down(self, timeout)
        text.expect_threads()

    started.__doc__, joined.__doc__ = start.__doc__, run_down.__doc__
    threading.Thread.start = started  # type: ignore[method-assign]
    threading.Thread.join = joined  # type: ignore[method-assign]


def _watch_ends(text: Text) -> None:
    def marking(wait: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(wait)
        def waited(*arguments: Any, **options: Any) -> Any:
            result = wait(*arguments, **options)
            text.child_ended()
            return result

        return waited

    for name in ("system", "wait", "waitpid", "wait3", "wait4", "waitid"):
        setattr(os, name, marking(getattr(os, name)))
    ended = getattr(subprocess.Popen, "_handle_exitstatus", None)
    if ended is not None:
        subprocess.Popen._handle_exitstatus = marking(ended)  # type: ignore[attr-defined]


def _say_last_words(text: Text) -> None:
    """What was printed just before the process ends itself is not left in a buffer."""

    def saying(end: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(end)
        def ended(*arguments: Any, **options: Any) -> Any:
            text.say_last_words()
            return end(*arguments, **options)

        return ended

    for module, name in ((os, "_exit"), (os, "abort"), (os, "kill"), (signal, "raise_signal")):
        setattr(module, name, saying(getattr(module, name)))


def _keep_children(interrupts: Interrupts) -> None:
    """An interrupt within `Popen()` would leave a child that nobody knows: it waits, and ends it."""
    make = subprocess.Popen.__init__

    @functools.wraps(make)
    def made(self: Any, *arguments: Any, **options: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            make(self, *arguments, **options)
            return
        holding = interrupts.hold()
        try:
            with holding:
                make(self, *arguments, **options)
        except KeyboardInterrupt:
            if getattr(self, "_child_created", False) and self.returncode is None:
                self.kill()
                self.wait()
            raise

    subprocess.Popen.__init__ = made  # type: ignore[method-assign]


def _asked_by_user_code() -> bool:
    """Whether a cell loads the library, not one of the many packages that do for other reasons."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("ctypes"):
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return frame.f_globals.get("__name__") == "__main__"
