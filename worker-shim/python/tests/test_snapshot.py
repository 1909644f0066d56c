"""A fork that saves: what it was copied from goes on, and knows nothing of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from .harness import LIBRARY, PACKAGES, ensure_library

BEGIN = """
import ctypes, gc, json, os, signal, socket, sys, threading, time
sys.path.insert(0, sys.argv[1])
from cellblock_worker.snapshot import Forks
# As in a sandbox: what has no parent any more is somebody's who reaps it.
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
forks = Forks(sys.argv[2])
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
def told(snapshot):
    theirs.close()
    message = ours.recv(65536)
    assert snapshot.has_ended(30)
    return json.loads(message)
def tell(found):
    theirs.send(json.dumps(found).encode())
    os._exit(0)
"""


def _run(body: str) -> Any:
    ensure_library()
    command = [sys.executable, "-c", BEGIN + body, str(PACKAGES), str(LIBRARY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_has_what_was_there_at_the_fork_and_not_what_comes_after() -> None:
    body = """
value = [1, 2]
snapshot = forks.aside(theirs.fileno())
if snapshot is None:
    theirs.recv(1)
    tell(value)
value.append(3)
ours.send(b"x")
print(json.dumps([told(snapshot), value]))
"""
    assert _run(body) == [[1, 2], [1, 2, 3]]


def test_it_draws_what_comes_next_by_chance() -> None:
    body = """
import random
random.seed(7)
snapshot = forks.aside(theirs.fileno())
if snapshot is None:
    tell(random.random())
print(json.dumps([told(snapshot), random.random()]))
"""
    in_the_fork, here = _run(body)
    assert in_the_fork == here


def test_it_is_nobodys_child_and_has_nothing_of_anybodys() -> None:
    body = """
import tempfile
reading, writing = os.pipe()
file = tempfile.TemporaryFile()
file.write(b"12345"); file.flush()
signal.signal(signal.SIGTERM, lambda *_: None)
before = signal.signal(signal.SIGCHLD, lambda *_: None)
snapshot = forks.aside(theirs.fileno())
if snapshot is None:
    files = {int(name): os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{name}")}
    tell({
        "standard": [files[fd] for fd in range(3)],
        "pipes": [fd in files for fd in (reading, writing, ours.fileno())],
        "place": os.lseek(file.fileno(), 0, os.SEEK_CUR), "collects": gc.isenabled(),
        "handlers": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)],
        "score": open("/proc/self/oom_score_adj").read(), "nice": os.nice(0), "parent": os.getppid(),
    })
found = told(snapshot)
found["mine"] = os.getpid()
# Here this process is the one that it was left to; in a sandbox that is init.
os.waitpid(-1, 0)
print(json.dumps(found))
"""
    found = _run(body)
    assert found["standard"] == ["/dev/null"] * 3
    assert found["pipes"] == [False] * 3
    assert (found["place"], found["collects"], found["handlers"]) == (5, False, [0, 1])
    assert (found["score"], found["nice"]) == ("1000\n", 10)


def test_who_waits_for_all_children_does_not_wait_for_it() -> None:
    # Somebody else is to inherit it: a process above this one.
    body = """
if (below := os.fork()) == 0:
    assert ctypes.CDLL(None).prctl(36, 0, 0, 0, 0) == 0
    snapshot = forks.aside(theirs.fileno())
    if snapshot is None:
        time.sleep(30)
        os._exit(0)
    try:
        os.wait()
        os._exit(1)
    except ChildProcessError:
        pass
    assert not snapshot.has_ended()
    snapshot.kill()
    assert snapshot.has_ended(10)
    os._exit(0)
codes = sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2))
print(json.dumps(codes))
"""
    assert _run(body) == [-9, 0]


def test_the_end_of_a_pipe_is_seen_while_it_lives() -> None:
    body = """
import subprocess
reading, writing = os.pipe()
snapshot = forks.aside(theirs.fileno())
if snapshot is None:
    # Told when its descriptors are closed.
    theirs.send(b"ready")
    time.sleep(30)
    os._exit(0)
assert ours.recv(10) == b"ready"
os.close(writing)
end = os.read(reading, 1)
output = subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout
snapshot.kill()
print(json.dumps([end.decode(), output]))
"""
    assert _run(body) == ["", "hello\n"]


def test_libraries_with_threads_go_on_in_both() -> None:
    pytest.importorskip("numpy")
    body = """
import numpy as np
square = np.ones((600, 600))
assert (square @ square)[0, 0] == 600
for _ in range(20):
    snapshot = forks.aside(theirs.fileno())
    if snapshot is None:
        theirs.send(json.dumps(float(square.sum())).encode())
        os._exit(0)
    assert (square @ square)[0, 0] == 600
    assert json.loads(ours.recv(100)) == 360_000
    assert snapshot.has_ended(30)
    snapshot.close()
print(json.dumps(len(os.listdir("/proc/self/fd"))))
"""
    # Three standard ones, two sockets, and the one that lists.
    assert _run(body) <= 8
