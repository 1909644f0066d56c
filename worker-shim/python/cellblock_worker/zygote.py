"""Where a zygote begins: imports once what its workers need, then forks them.

It runs no user code, and has one thread whenever it forks: a second one would not exist in the worker, and
what it held would be held for ever.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import importlib.util
import json
import os
import socket
import sys
import time
from typing import Any, NoReturn

from . import after_fork, threads, warm_up
from . import main as worker
from .channel import Channel
from .native import Joint, Native

REPORT_FD = 3
LISTENER_FD = 4
CLONE_THREAD = 0x10000

# Descriptors of the zygote itself, besides those that it was started with.
_OURS: set[int] = set()


class NotWarm(Exception):
    """Why there can be no zygote."""


def main() -> NoReturn:
    """Serves until the shim goes away. Each worker leaves it, and serves its own shim."""
    begun = time.monotonic()
    reports = socket.socket(fileno=os.dup(REPORT_FD))
    _OURS.add(reports.fileno())
    path = worker.library()
    pools = threads.Pools.one_each()
    try:
        # What is made from here on stays; looking through it for garbage again and again costs a third.
        gc.disable()
        worker.prepare_environment()
        worker.seed_fonts()
        parts = _built(Channel(Native(path)))
        preloaded = _preload(os.environ.pop("CELLBLOCK_PRELOAD", ""))
        warm_up.run(parts.shell)
        pools.find()
        joint = Joint(path)
        _expect_alone("the preparation")
    except NotWarm as fault:
        _report(reports, {"failed": {"detail": str(fault)}})
        sys.exit(worker.EXIT_UNFIT)
    files = after_fork.Files.collect()
    gc.collect()
    # What is there now is never looked at again: a collection would write into each object's header, and
    # so copy the pages of all of them into each worker.
    gc.freeze()
    from .proof import versions

    _report(
        reports, {"up": {"python": versions(), "preloaded": preloaded, "seconds": time.monotonic() - begun}}
    )
    reports.close()
    seal, nonce, is_spare = joint.serve(LISTENER_FD)

    # From here on this is a worker.
    gc.enable()
    after_fork.reseed()
    pools.restore_environment()
    worker.open_channel(parts.channel, nonce)
    files.make()
    executor = worker.begin(parts)
    if is_spare:
        # Once more, so that the pages are there and its own which a first cell will touch: some 5 us each.
        warm_up.run(parts.shell)
    joint.seal(seal)
    pools.set()
    worker.serve(executor, parts.channel)


def _built(channel: Channel) -> worker.Parts:
    try:
        if importlib.util.find_spec("IPython") is None:
            raise NotWarm(worker.cure("IPython"))
        from . import executor, spawn, text  # noqa: F401

        return worker.Parts.build(channel)
    except ImportError as error:
        raise NotWarm(f"{worker.cure('IPython')} ({error})") from error


def _preload(names: str) -> list[str]:
    """Imports what the profile names; a name with `?` only where it is installed."""
    preloaded = []
    for name in filter(None, names.split(",")):
        module = name.removesuffix("?")
        if module != name and not _is_installed(module):
            continue
        try:
            importlib.import_module(module)
        except Exception as error:
            raise NotWarm(f"import {module}: {type(error).__name__}: {error}") from error
        _expect_alone(f"import {module}")
        preloaded.append(module)
    return preloaded


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _expect_alone(what: str) -> None:
    """A fork has one thread and the worker's own descriptors; what counts on others would meet strangers."""
    # There is no /proc to count threads in; the kernel refuses this to a process that has several.
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_THREAD) != 0 and ctypes.get_errno() == errno.EINVAL:
        raise NotWarm(f"{what} starts a thread, and what has threads cannot be forked")
    kept = [fd for fd in range(LISTENER_FD + 1, 256) if fd not in _OURS and _is_open(fd)]
    if kept:
        raise NotWarm(f"{what} keeps a file open (descriptor {kept[0]}), which its forks would not have")


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _report(reports: socket.socket, message: dict[str, Any]) -> None:
    reports.send(json.dumps(message).encode())
