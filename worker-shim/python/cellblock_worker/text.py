"""sys.stdout and sys.stderr: text goes straight into the pipes on 1 and 2.

Python, C code and child processes then share one order by nature. What nature does not give, the
order *between* the two pipes, is given by marks:

- The worker's own stderr text ends with a mark, and begins with one when stdout text stands before
  it. So stdout text needs no marks, and the shim may take stdout before stderr between two marks.
- While children live that write to either pipe, or user code calls C functions, every write begins
  with a mark ("careful").

A system call per write costs 1 µs where Python's block buffering costs 0.2 µs a line. So a burst of
writes from the running cell is collected by the `TextIOWrapper` itself (no Python code runs per
line then) for at most `BURST_SECONDS`, after which a thread that lives just as long pushes it out.
Anything else that Python can see (a frame, stderr, os.write, a child, a thread) pushes it out first.
"""

from __future__ import annotations

import _thread
import contextlib
import io
import os
import posix
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import attribution
from .attribution import EXECUTION
from .channel import Channel

# So many writes within so many nanoseconds are a burst; a print is two writes.
BURST_WRITES = 64
BURST_WITHIN_NS = 2_000_000
# How long text of a burst may wait; the shim's own batch waits 10 ms.
BURST_SECONDS = 0.005
# A pipe takes 64 KiB: the reader empties one part while the next is collected.
BURST_BYTES = 32 << 10


class Text:
    """Both streams. There is one, as there is one pair of pipes."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        # Set by the executor: the running cell is plain synchronous code in the main thread.
        self.synchronous = False
        # The Execution to which the shim gives what comes out of the pipes now; None between two runs,
        # where whoever writes says first whose it is.
        self.owner: str | None = ""
        # stdout text was written since the last mark.
        self.dirty = False
        # The next write must begin with a mark: stderr text stands unmarked, or we are careful.
        self.unsettled = False
        # Children may write at any time; user code may call C functions that write.
        self._children = False
        self._foreign = False
        self._is_child = False
        # The thread whose text is dropped.
        self._muted: int | None = None
        # The wrappers hold unfinished lines, see `expect_threads`.
        self.lines = False
        self.bursting = False
        self.starting_burst = False
        self._burst_ends: tuple[_thread.LockType, _thread.LockType] | None = None

        self._out_sink = _Stdout(self)
        self._err_sink = _Stderr(self)
        self.out = _wrapper(self._out_sink)
        self.err = _wrapper(self._err_sink)
        channel.flush_text = self.flush
        channel.marked = self._marked

    def install(self) -> None:
        """Replaces the interpreter's own streams."""
        sys.stdout = sys.__stdout__ = self.out  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = self.err  # type: ignore[misc]
        os.write = self._os_write

    def watch_forks(self) -> None:
        """From here on a fork of this process is a child of the worker, and no worker itself."""
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._become_child
        )

    # What the rest of the worker says.

    def flush(self) -> None:
        """Pushes out what Python still holds of both streams."""
        with self.channel.lock:
            self.end_burst()
            for stream in (self.out, self.err):
                # User code may have closed it, or the descriptor under it.
                with contextlib.suppress(ValueError, OSError):
                    stream.flush()

    def say_last_words(self) -> None:
        """As `flush`, if that can be done at once: the process may be about to end, for whatever reason."""
        if self._is_child or not self.bursting or not self.channel.lock.acquire(blocking=False):
            return
        try:
            self.end_burst()
        finally:
            self.channel.lock.release()

    def begin(self, execution: str) -> None:
        """A run begins: from here on text belongs to `execution`."""
        with self.channel.lock:
            if self.owner is None and not self.unsettled:
                # Nobody has written since the last run; the shim expects this one's text.
                self.owner = execution
            else:
                self.switch(execution)

    def rest(self) -> None:
        """A run has ended, and the shim knows."""
        self.owner = None

    def switch(self, execution: str) -> None:
        """From here on text belongs to `execution`."""
        with self.channel.lock:
            if execution != self.owner and not self._is_child:
                self.channel.send({"switch": {"execution": execution}})
                # After the send: an interrupt between the two sends it once more, which is harmless.
                self.owner = execution

    def expect_child(self) -> None:
        """A child is about to be made: its text begins after ours."""
        if self._is_child:
            self.flush()
            return
        with self.channel.lock:
            self._children = True
            self.channel.mark()

    def child_ended(self) -> None:
        """A child was waited for: what it wrote stands before what anybody writes now."""
        if not self._is_child and self._children:
            with self.channel.lock:
                self.settle()

    def expect_foreign(self) -> None:
        """User code has got hold of C functions: they may write without Python seeing it."""
        with self.channel.lock:
            self.flush()
            self._foreign = self.unsettled = True

    def expect_threads(self, more: int = 0) -> None:
        """So many threads more are about to begin, or some have ended.

        A print is two writes, text and newline. With one thread each goes out at once. With several
        they would be torn apart by each other's, so a line goes out whole.
        """
        with self.channel.lock:
            self.end_burst()
            self.lines = lines = threading.active_count() + more > 1
            for stream in (self.out, self.err):
                if stream.write_through is lines:
                    with contextlib.suppress(ValueError):
                        stream.reconfigure(line_buffering=lines, write_through=not lines)

    # The write path; the lock is held.

    def settle(self) -> None:
        """The mark that is due before a write."""
        if self._children and not _has_children():
            self._children = False
        self.channel.mark()

    def _marked(self) -> None:
        self.dirty = False
        self.unsettled = self._children or self._foreign

    def claim(self) -> None:
        """Makes sure that what is written next is attributed to who writes it."""
        execution = attribution.current_execution()
        if execution != self.owner:
            self.switch(execution)

    @contextlib.contextmanager
    def muted(self) -> Iterator[None]:
        """What this thread prints meanwhile is nobody's output; other threads' is what it was."""
        with self.channel.lock:
            self.flush()
            self._muted = _thread.get_ident()
        try:
            yield
        finally:
            with self.channel.lock:
                self.flush()
                self._muted = None

    def write_out(self, data: Any, write: Callable[[int, Any], int]) -> int:
        """stdout, from wherever."""
        if self._muted is not None and self._muted == _thread.get_ident():
            return len(data)
        if self._is_child:
            return write(1, data)
        if EXECUTION.get("") != self.owner:
            self.claim()
        if self.unsettled:
            self.settle()
        self.dirty = True
        return write(1, data)

    def write_err(self, data: Any, write: Callable[[int, Any], int]) -> int:
        """stderr, from wherever."""
        if self._muted is not None and self._muted == _thread.get_ident():
            return len(data)
        with contextlib.suppress(ValueError, OSError):
            self.out.flush()
        if self._is_child:
            return write(2, data)
        self.claim()
        if self.dirty or self.unsettled:
            self.settle()
        # Until the mark stands: an interrupt may fall between text and mark.
        self.unsettled = True
        written = write(2, data)
        self.channel.mark_flushed()
        return written

    def _os_write(self, fd: int, data: Any, /) -> int:
        """Write a bytes object to a file descriptor."""
        if fd == 1:
            with self.channel.lock:
                self.flush()
                return self.write_out(data, posix.write)
        if fd == 2:
            with self.channel.lock:
                self.flush()
                return self.write_err(data, posix.write)
        return posix.write(fd, data)

    # Bursts.

    def may_burst(self) -> bool:
        """Whether nobody but the running cell can write, so that nothing needs to be told apart."""
        return (
            self.synchronous
            and not self.bursting
            and not self.unsettled
            and not self._is_child
            and _thread.get_ident() == threading.main_thread().ident
            and threading.active_count() == 1
            and self._burst_ends is None
        )

    def begin_burst(self) -> None:
        """Lets the wrapper collect, until `BURST_SECONDS` are over or somebody flushes."""
        wake, done = _thread.allocate_lock(), _thread.allocate_lock()
        wake.acquire()
        done.acquire()
        self.bursting = True
        self._burst_ends = (wake, done)
        self.out.reconfigure(write_through=False, line_buffering=False)
        self.out._CHUNK_SIZE = BURST_BYTES  # type: ignore[attr-defined]
        # Not threading.Thread: user code that counts threads must not see it.
        self.starting_burst = True
        try:
            _thread.start_new_thread(self._end_burst_later, (wake, done))
        finally:
            self.starting_burst = False

    def end_burst(self) -> None:
        """Pushes out a burst and goes back to a write at a time. The lock is held."""
        if self.bursting:
            self.bursting = False
            with contextlib.suppress(ValueError, OSError):
                self.out.reconfigure(write_through=True)

    def _end_burst_later(self, wake: _thread.LockType, done: _thread.LockType) -> None:
        try:
            wake.acquire(True, BURST_SECONDS)
            # The lock first: text taken out of the wrapper must be written before any that follows.
            with self.channel.lock:
                self.end_burst()
                self._burst_ends = None
        finally:
            done.release()

    # Forks.

    def _before_fork(self) -> None:
        if self._is_child:
            return
        # The thread of a burst must be gone: forking with threads warns, and should.
        ends = self._burst_ends
        if ends is not None:
            with contextlib.suppress(RuntimeError):
                ends[0].release()
            ends[1].acquire()
            _await_thread_exit()
        # Held across the fork, so that no other thread of ours is in the middle of a write.
        self.channel.lock.acquire()
        self.flush()

    def _after_fork(self) -> None:
        if not self._is_child:
            self.channel.lock.release()

    def _become_child(self) -> None:
        """The child has no marks and no frames: its text is one stream within its parent's."""
        if self._is_child:
            return
        self._is_child = True
        self.channel.close()
        for stream in (self.out, self.err):
            with contextlib.suppress(ValueError):
                stream.reconfigure(line_buffering=True, write_through=False)

    @property
    def is_child(self) -> bool:
        """Whether this process is a fork of the worker."""
        return self._is_child


class _Sink(io.RawIOBase):
    """What a wrapper writes bytes to."""

    def __init__(self, text: Text, fd: int, name: str) -> None:
        super().__init__()
        self._text = text
        self._fd = fd
        self.name = name
        self.mode = "wb"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    @property
    def raw(self) -> io.RawIOBase:
        return self


class _Stdout(_Sink):
    def __init__(self, text: Text) -> None:
        super().__init__(text, 1, "<stdout>")
        self._writes = 0
        self._since = 0

    def write(self, data: Any, /) -> int:
        text = self._text
        with text.channel.lock:
            if text.bursting or text.lines:
                # Called by user code (sys.stdout.buffer) rather than by the wrapper, which has
                # nothing left when it calls: what it holds goes first.
                text.out.flush()
            text.write_out(data, _write_all)
            self._writes += 1
            if self._writes >= BURST_WRITES:
                now = time.monotonic_ns()
                if now - self._since < BURST_WITHIN_NS and text.may_burst():
                    text.begin_burst()
                self._writes, self._since = 0, now
        return len(data)


class _Stderr(_Sink):
    def __init__(self, text: Text) -> None:
        super().__init__(text, 2, "<stderr>")

    def write(self, data: Any, /) -> int:
        text = self._text
        with text.channel.lock:
            if text.lines:
                text.err.flush()
            text.write_err(data, _write_all)
        return len(data)


def _wrapper(sink: _Sink) -> io.TextIOWrapper:
    return io.TextIOWrapper(sink, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)


def _write_all(fd: int, data: Any) -> int:
    size = len(data)
    rest = data
    while True:
        try:
            written = posix.write(fd, rest)
        except BlockingIOError:
            # A child may have made the pipe non-blocking for all who share it.
            select.select([], [fd], [])
            continue
        if written == len(rest):
            return size
        rest = memoryview(rest)[written:]


def _has_children() -> bool:
    try:
        posix.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _await_thread_exit() -> None:
    # The lock is released a moment before the thread is gone from /proc.
    for _ in range(50):
        if len(os.listdir("/proc/self/task")) <= threading.active_count():  # noqa: PTH208
            return
        time.sleep(0.0002)
