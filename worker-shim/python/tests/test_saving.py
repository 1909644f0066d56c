"""The worker's part of a checkpoint: who saves, what is told, and that nothing of it lasts for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from cellblock_worker import checkpoint, saving
from cellblock_worker.checkpoint import plain_dill
from cellblock_worker.checkpoint_native import CheckpointNative

from .harness import LIBRARY, PACKAGES, ensure_library
from .store_double import StoreDouble

_BEGIN = """
import asyncio, ctypes, json, os, sys, threading, time
packages, library, fd = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.insert(0, packages)
from types import SimpleNamespace
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
from cellblock_worker import checkpoint, errors, names, saving
# Of a fork that nobody is the parent of.
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
told = []
channel = SimpleNamespace(native=SimpleNamespace(path=library), send=told.append)
loop = asyncio.new_event_loop()
saver = saving.Saver(channel, shell, loop)
def run(cell):
    shell.run_cell(cell, silent=True).raise_error()
def save():
    saver.save("e1", os.dup(fd))
    os.close(fd)
def save_to_the_end():
    before = len(os.listdir("/proc/self/fd"))
    save()
    turn(lambda: len(os.listdir("/proc/self/fd")) < before)
def turn(until):
    deadline = time.monotonic() + 30
    while not until():
        assert time.monotonic() < deadline, told
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
"""
_END = "\nprint(json.dumps(told))\nsys.stdout.flush()\nos._exit(0)\n"


def _saves(body: str) -> tuple[list[Any], StoreDouble]:
    """What the worker told, and the store with what came to it."""
    ensure_library()
    store = StoreDouble()
    with store.session() as ours:
        command = [
            sys.executable,
            "-c",
            _BEGIN + body + _END,
            str(PACKAGES),
            str(LIBRARY),
            str(ours.fileno()),
        ]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[ours.fileno()],
        ) as child:
            ours.close()
            try:
                output, said = child.communicate(timeout=60)
            finally:
                child.kill()
        assert child.returncode == 0, said
    assert "heard" not in output + said
    # What IPython shows of errors comes before it.
    return [one["snapshot"] for one in json.loads(output.splitlines()[-1])], store


def _names(store: StoreDouble) -> list[str]:
    return [one["name"] for one in json.loads(store.last.names)["names"]]


def test_a_fork_saves_and_is_forgotten_when_it_has_ended() -> None:
    body = """
run("x = [1]")
save_to_the_end()
"""
    told, store = _saves(body)
    assert [one["failed"] for one in told] == [None]
    assert _names(store) == ["x"]


# What a fork copies of a lock that another thread has.
_HANGS = """
saving.FORK_SECONDS = 0.5
run('''
import os
class Slow:
    def __reduce__(self):
        print("heard")
        while os.getpid() != home: pass
        return Slow, ()
home, slow, x = os.getpid(), Slow(), 1
''')
save()
assert len(told) == 1
"""


def test_what_a_fork_that_hangs_was_to_save_the_worker_saves_itself() -> None:
    body = _HANGS + 'turn(lambda: len(told) == 2)\nassert saver._forks_hang\nrun("y = 1")\n'
    told, store = _saves(body)
    assert [one["failed"] for one in told] == [None, None]
    assert set(_names(store)) >= {"Slow", "slow", "x"}
    assert json.loads(store.last.names)["left_out"] == []


def test_it_saves_nothing_in_the_middle_of_another_cell() -> None:
    body = _HANGS + 'shell.events.trigger("pre_execute")\nturn(lambda: saver._forks_hang)\n'
    told, store = _saves(body)
    assert len(told) == 1
    assert store.checkpoints == []


def test_a_fork_that_fails_or_dies_says_so() -> None:
    body = """
def fail(subject): raise MemoryError("no room")
saver._serialize = fail
save()
turn(lambda: len(told) == 2)
"""
    told, store = _saves(body)
    assert [one["failed"] for one in told] == [None, "MemoryError: no room"]
    told, store = _saves(body.replace('raise MemoryError("no room")', "os.kill(os.getpid(), 9)"))
    assert [one["failed"] for one in told] == [None, "the process that saved has died"]
    assert store.checkpoints == []


def test_what_never_ends_costs_a_checkpoint_and_not_the_worker() -> None:
    body = """
saving.WORKER_SECONDS = 2
run('''
import threading, time
class Endless:
    def __reduce__(self):
        while True: pass
endless, x = Endless(), 1
threading.Thread(target=time.sleep, args=[60], daemon=True).start()
''')
again = os.dup(fd)
os.set_inheritable(again, False)
# The store's session is for the second.
import socket
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
saver.save("e1", ours.detach())
assert theirs.recv(10) == b""
assert shell.run_cell("x + 1", silent=True).success
save()
os.close(again)
"""
    told, store = _saves(body)
    assert told[0]["failed"] == (
        "the variables could not be collected in 2 s: an object of type __main__.Endless took too long; "
        "from now on it is left out"
    )
    assert told[1]["failed"] is None
    assert "x" in _names(store)
    assert "endless" not in _names(store)
    left_out = json.loads(store.last.names)["left_out"]
    assert {
        "path": "endless",
        "type": "__main__.Endless",
        "reason": "saving one took longer than 2 s",
    } in left_out


def test_an_unknown_serializer_is_refused_at_the_start() -> None:
    body = """
import cellblock_worker.saving
os.environ["CELLBLOCK_SERIALIZER"] = "marshal"
try:
    saving.Saver(channel, shell, loop)
except ValueError as error:
    assert str(error) == "no serializer 'marshal': choose one of cellblock, dill", error
else:
    raise AssertionError("it was taken")
os.environ["CELLBLOCK_SERIALIZER"] = "dill"
saver = saving.Saver(channel, shell, loop)
assert "CELLBLOCK_SERIALIZER" not in os.environ
run("x = 1")
save_to_the_end()
"""
    told, store = _saves(body)
    assert [one["failed"] for one in told] == [None]
    with CheckpointNative(str(LIBRARY)).denormalise(store.stream) as stream:
        assert plain_dill.has_made(stream.read())


def test_a_stream_of_either_serializer_is_told_apart_when_it_comes_from_a_store() -> None:
    ensure_library()
    native = CheckpointNative(str(LIBRARY))
    parts = [[number, "text"] for number in range(5_000)]
    for name, save in saving.SERIALIZERS.items():
        saved = save(checkpoint.Subject({"parts": parts, "also": parts}))
        assert plain_dill.has_made(saved.stream) == (name == "dill")
        with native.denormalise(native.normalise(saved.stream)) as stream:
            target: dict[str, object] = {}
            checkpoint.load(stream.read(), saved.buffers, target)
        assert target["parts"] == parts
        assert target["also"] is target["parts"]


# A store process's part, of one file.
_OPENED = """
import array, socket
def opened(subject, python=None, packages=None, raw=None):
    import platform
    saved = checkpoint.save(subject)
    manifest = {"python": python or platform.python_version(), "packages": packages or {}}
    description = {"manifest": manifest, "buffers": []}
    assert not saved.buffers
    fds = []
    for content in (json.dumps(description).encode(), raw or saver._native.normalise(saved.stream)):
        fds.append(os.memfd_create("part"))
        os.write(fds[-1], content)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    socket.send_fds(theirs, [b"opened"], fds)
    return ours.detach()
def shown(cell):
    error = shell.run_cell(cell, silent=True).error_in_exec
    report = errors.report(type(error).__name__, error, ["Traceback", f"NameError: {error}"], lambda _: None)
    assert report["traceback"][-1] == f"NameError: {report['value']}"
    return report["value"]
lock = threading.Lock()
"""


def test_a_name_that_was_not_restored_says_so_until_it_is_bound_again() -> None:
    body = (
        _OPENED
        + """
user = {"mutex": lock, "other": lock, "x": 1, "f": None}
saver.restore(opened(checkpoint.Subject(user)))
restored = told.pop()["restored"]
assert {loss["path"] for loss in restored["losses"]} == {"mutex", "other"} and restored["failed"] is None
assert shown("mutex") == "name 'mutex' is not defined; it was not restored: a lock", shown("mutex")
assert shown("nothing") == "name 'nothing' is not defined"
run("def g(): return mutex")
assert shown("g()").endswith("it was not restored: a lock")
# What another module lacks is no name of the user's.
run("import types; m = types.ModuleType('m'); exec('def h(): return mutex', vars(m))")
assert shown("m.h()") == "name 'mutex' is not defined"
# A checkpoint that is taken then knows it still; one after it was bound does not.
subject = checkpoint.Subject(shell.user_ns, shell.user_ns_hidden, missing=names.missing)
saver.restore(opened(subject))
assert told.pop()["restored"]["losses"] == []
assert shown("mutex").endswith("it was not restored: a lock")
run("mutex = 5")
names.snapshot(shell.user_ns, shell.user_ns_hidden)
run("del mutex")
assert shown("mutex") == "name 'mutex' is not defined"
assert shown("other").endswith("it was not restored: a lock")
saver.restore(opened(checkpoint.Subject({"x": 1}, missing=names.missing)))
told.clear()
assert shown("mutex") == "name 'mutex' is not defined" and shown("other").endswith("a lock")
saver.restore(opened(checkpoint.Subject({"x": 1})))
told.clear()
assert shown("other") == "name 'other' is not defined"
"""
    )
    assert _saves(body)[0] == []


def test_a_name_that_could_not_be_loaded_says_so() -> None:
    body = (
        _OPENED
        + """
import types
gone = types.ModuleType("gone"); gone.__file__ = "gone.py"
exec("class Gone: pass", vars(gone)); sys.modules["gone"] = gone
subject = checkpoint.Subject({"value": gone.Gone(), "x": 1})
fd_of = opened(subject)
del sys.modules["gone"]
saver.restore(fd_of)
told.clear()
assert shown("value") == (
    "name 'value' is not defined; it was not restored: needs an object of type gone.Gone was not restored: "
    "ModuleNotFoundError: No module named 'gone'"
), shown("value")
"""
    )
    assert _saves(body)[0] == []


def test_other_versions_are_told_with_what_was_restored() -> None:
    body = (
        _OPENED
        + """
saver.restore(opened(checkpoint.Subject({"x": 1}), "2.7.1", {"IPython": "0.1"}))
restored = told.pop()["restored"]
assert [one.partition(",")[0] for one in restored["differences"]] == ["Python 2.7.1", "IPython 0.1"]
assert restored["failed"] is None and shell.user_ns["x"] == 1
"""
    )
    assert _saves(body)[0] == []


def test_a_verification_says_what_would_be_lost_and_prints_nothing() -> None:
    body = (
        _OPENED
        + """
class Loud:
    def __setstate__(self, state):
        print("heard")
        raise ValueError("no longer")
loud = Loud(); loud.x = 1
import __main__
Loud.__module__ = "loud"; sys.modules["loud"] = module = __import__("types").ModuleType("loud")
module.Loud, module.__file__ = Loud, "loud.py"
saver.verify(opened(checkpoint.Subject({"kept": 1, "loud": loud, "mutex": lock})))
verified = told.pop()["verified"]
assert verified["failed"] is None
assert {loss["path"]: loss["reason"] for loss in verified["losses"]} == {
    "loud": "ValueError: no longer", "mutex": "a lock"}, verified
saver.verify(opened(checkpoint.Subject({"kept": 1}), raw=b"no stream"))
assert told.pop()["verified"]["failed"].startswith("CheckpointError: ")
"""
    )
    assert _saves(body)[0] == []
