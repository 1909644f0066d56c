"""Where the worker begins. The shim's init starts it with everything in place but the cells."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

from . import pillow_support, plotly_support, tqdm_support
from .channel import EXIT_INTERNAL, SOCKET_FD, Channel
from .interrupt import PAGE_FD
from .native import Native

# The interpreter lacks what the worker needs; `Unfit` says what.
EXIT_UNFIT = 3


def main() -> NoReturn:
    """Serves until the shim goes away."""
    for fd in (SOCKET_FD, PAGE_FD):
        # Before anything can start a process. A missing page is allowed, see interrupt.py.
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    channel = _channel()
    if importlib.util.find_spec("IPython") is None:
        channel.send({"unfit": {"detail": _cure("IPython")}})
        os._exit(EXIT_UNFIT)
    _environment()
    try:
        _serve(channel)
    except ImportError as error:
        channel.send({"unfit": {"detail": f"{_cure('IPython')} ({error})"}})
        os._exit(EXIT_UNFIT)


def _channel() -> Channel:
    path = os.environ.pop("CELLBLOCK_NATIVE", "/cellblock/libcellblock_native.so")
    nonce = os.environ.pop("CELLBLOCK_NONCE", "")
    try:
        return Channel(Native(path, bytes.fromhex(nonce) if nonce else os.urandom(16)))
    except (OSError, ValueError, AttributeError) as error:
        # Without the library nothing can be sent: stderr is all there is.
        os.write(2, f"cellblock worker: cannot load {path}: {error}\n".encode("utf-8", "replace"))
        os._exit(EXIT_INTERNAL)


def _environment() -> None:
    """What must stand before the first import of a package."""
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # Plotly's default emits its whole JavaScript, 4.8 MB a figure.
    os.environ.setdefault("PLOTLY_RENDERER", "plotly_mimetype")
    plotly_support.install()
    pillow_support.install()
    tqdm_support.install()
    cache, target = os.environ.get("CELLBLOCK_CACHE"), os.environ.get("MPLCONFIGDIR")
    if cache and target:
        # Without the list of fonts the first figure takes 1.5 s longer.
        with contextlib.suppress(OSError):
            for fonts in (Path(cache) / "matplotlib").glob("fontlist*.json"):
                Path(target).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fonts, Path(target) / fonts.name)


def _serve(channel: Channel) -> NoReturn:
    from . import attribution, bokeh_support, spawn
    from .proof import proof, versions
    from .text import Text

    text = Text(channel)
    text.install()
    from .interrupt import Interrupts
    from .publish import Outputs

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    interrupts = Interrupts(loop, channel.native)
    interrupts.rest()
    from .executor import Executor
    from .shell import Shell

    outputs = Outputs(channel)
    shell = Shell.make(outputs, interrupts)
    outputs.widgets.install()
    shell.events.register("post_execute", outputs.widgets.catch_up)
    bokeh_support.install(outputs)
    attribution.follow_threads()
    spawn.watch(text, interrupts)
    os.register_at_fork(after_in_child=interrupts.become_child)
    executor = Executor(loop, channel, text, shell, interrupts)
    channel.send({"ready": {"python": versions(), "proof": proof()}})
    # Isolated mode leaves it out: a notebook's modules lie beside it. Not before the shim knows us: a
    # `random.py` of the notebook's would run in the middle of our own imports, or end them.
    sys.path.insert(0, "")
    executor.serve()
    raise AssertionError("the loop has no end")


def _cure(package: str) -> str:
    return (
        f"{package} is not installed for {sys.executable}: "
        f"install it with `{sys.executable} -m pip install ipython dill`"
    )
