"""Where a zygote begins: imports once what its workers need, then forks them.

It runs no user code, and has one thread whenever it forks: a second one would not exist in the worker, and
what it held would be held for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import time
import traceback
from typing import Any, NoReturn

from . import after_fork, threads
from . import main as worker
from .channel import Channel
from .generators import Generators
from .interrupt import Interrupts
from .native import Joint, Native
from .open_files import OpenFiles
from .process_state import ProcessState

REPORT_FD = 3
LISTENER_FD = 4

# Of what is told of a failure: enough for any message, and no more than a report holds.
DETAIL_CHARACTERS = 4_000


class NotWarm(Exception):
    """Why there can be no zygote."""


def main() -> NoReturn:
    """Serves until the shim goes away. Each worker leaves it, and serves its own shim."""
    begun = time.monotonic()
    worker.close_on_exec(REPORT_FD, LISTENER_FD)
    opened = OpenFiles()
    state = ProcessState()
    generators = Generators()
    generators.watch()
    pools = threads.Pools.one_each()
    # What is made from here on stays; looking through it for garbage again and again costs a third.
    gc.disable()
    try:
        joint, parts, preloaded = _prepare(opened)
        from . import warm_up

        rehearsal = warm_up.Rehearsal(parts.channel.native)
        rehearsal.run()
        pools.restore()
        _expect_alone("the preparation", opened)
    except NotWarm as fault:
        _report({"failed": {"detail": str(fault)[:DETAIL_CHARACTERS]}})
        os._exit(worker.EXIT_UNFIT)
    state.put_back()
    opened.release()
    files = after_fork.Files.collect()
    generators.collect()
    # Here as well, for what is slow the first time.
    after_fork.reseed()
    generators.reseed()
    _flush(parts)
    gc.collect()
    # What is there now is never looked at again: a collection would write into each object's header, and
    # so copy the pages of all of them into each worker.
    gc.freeze()
    from .proof import versions

    _report({"up": {"python": versions(), "preloaded": preloaded, "seconds": time.monotonic() - begun}})
    seal, nonce, is_spare = joint.serve(LISTENER_FD)

    # From here on this is a worker.
    gc.enable()
    after_fork.reseed()
    generators.reseed()
    worker.open_channel(parts.channel, nonce)
    files.make()
    opened.reopen()
    executor = worker.begin(parts)
    if is_spare:
        # Once more, so that the pages are there and its own which a first cell will touch: some 5 us each.
        rehearsal.touch()
    joint.seal(seal)
    pools.set()
    worker.serve(parts, executor)


def _prepare(opened: OpenFiles) -> tuple[Joint, worker.Parts, list[str]]:
    path, names = worker.library(), os.environ.pop("CELLBLOCK_PRELOAD", "")
    os.environ.pop("CELLBLOCK_NONCE", None)
    try:
        joint, native = Joint(path), Native(path)
    except (OSError, AttributeError) as error:
        raise NotWarm(f"cannot load {path}: {error}") from error
    if importlib.util.find_spec("IPython") is None:
        raise NotWarm(worker.cure("IPython"))
    worker.prepare_environment()
    worker.seed_fonts()
    try:
        parts = worker.Parts.build(Channel(native), Interrupts(native))
    except ImportError as error:
        raise NotWarm(f"{worker.cure('IPython')} ({error})") from error
    # As in a cell, where `get_ipython` is a builtin: packages look for it to tell a notebook from a terminal,
    # and pandas would fold wide frames otherwise.
    with parts.shell.builtin_trap, parts.shell.display_trap:
        preloaded = _preload(names, opened)
    return joint, parts, preloaded


def _preload(names: str, opened: OpenFiles) -> list[str]:
    """Imports what the profile names; a name with `?` only where it is installed."""
    preloaded = []
    for name in filter(None, names.split(",")):
        module = name.removesuffix("?")
        if module != name and not _is_installed(module):
            continue
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:
            # Whole in the log; the report has its last line.
            traceback.print_exception(error)
            raise NotWarm(f"import {module}: {type(error).__name__}: {error}") from error
        _expect_alone(f"import {module}", opened)
        preloaded.append(module)
    return preloaded


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def _expect_alone(what: str, files: OpenFiles) -> None:
    """A fork has one thread and descriptors of its own; what counts on others would meet strangers."""
    if not threads.is_alone():
        raise NotWarm(f"{what} starts a thread: a process that has several cannot be forked")
    if fault := files.fault():
        raise NotWarm(f"{what} keeps {fault}, which its forks would not have")


def _flush(parts: worker.Parts) -> None:
    """What imports have printed belongs into the log, not to each worker."""
    parts.text.flush()
    ctypes.CDLL(None).fflush(None)


def _report(message: dict[str, Any]) -> None:
    # A shim that is gone is told by the listener.
    with contextlib.suppress(OSError):
        os.write(REPORT_FD, json.dumps(message).encode())
