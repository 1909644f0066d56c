"""Where the worker begins. The shim's init starts it with everything in place but the cells.

What can be done before there is a worker (`Parts.build`), and what belongs to one process (`begin`), are
apart: a zygote does the first once, and each of its workers the second.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from . import pillow_support, plotly_support, tqdm_support
from .channel import EXIT_INTERNAL, SOCKET_FD, Channel
from .interrupt import PAGE_FD, Interrupts
from .native import Native

if TYPE_CHECKING:
    from .executor import Executor
    from .publish import Outputs
    from .shell import Shell

# The interpreter lacks what the worker needs; `Unfit` says what.
EXIT_UNFIT = 3


def main() -> NoReturn:
    """Serves until the shim goes away."""
    channel = _channel()
    nonce = os.environ.pop("CELLBLOCK_NONCE", "")
    open_channel(channel, bytes.fromhex(nonce) if nonce else os.urandom(16))
    if importlib.util.find_spec("IPython") is None:
        channel.send({"unfit": {"detail": cure("IPython")}})
        os._exit(EXIT_UNFIT)
    prepare_environment()
    seed_fonts()
    try:
        serve(begin(Parts.build(channel)), channel)
    except ImportError as error:
        channel.send({"unfit": {"detail": f"{cure('IPython')} ({error})"}})
        os._exit(EXIT_UNFIT)


@dataclass(frozen=True)
class Parts:
    """What is there before a worker is."""

    channel: Channel
    outputs: Outputs
    interrupts: Interrupts
    shell: Shell

    @classmethod
    def build(cls, channel: Channel) -> Parts:
        """Imports what every worker needs, and makes its shell. Nothing is of one process yet."""
        from . import bokeh_support
        from .publish import Outputs
        from .shell import Shell

        outputs = Outputs(channel)
        interrupts = Interrupts(channel.native)
        shell = Shell.make(outputs, interrupts)
        outputs.widgets.install()
        shell.events.register("post_execute", outputs.widgets.catch_up)
        bokeh_support.install(outputs)
        return cls(channel, outputs, interrupts, shell)


def open_channel(channel: Channel, nonce: bytes) -> None:
    """Takes the descriptors that the shim has given this process."""
    for fd in (SOCKET_FD, PAGE_FD):
        # Before anything can start a process. A missing page is allowed, see interrupt.py.
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    channel.native.begin(nonce)
    channel.open()


def begin(parts: Parts) -> Executor:
    """What belongs to one process: streams, loop, signal, hooks."""
    from . import attribution, spawn
    from .executor import Executor
    from .text import Text

    text = Text(parts.channel)
    text.install()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    parts.interrupts.attach(loop)
    parts.shell.compile.begin()
    attribution.follow_threads()
    spawn.watch(text, parts.interrupts)
    os.register_at_fork(after_in_child=parts.interrupts.become_child)
    return Executor(loop, parts.channel, text, parts.shell, parts.interrupts)


def serve(executor: Executor, channel: Channel) -> NoReturn:
    """Says that the worker is there, and runs what it is sent."""
    from .proof import proof, versions

    channel.send({"ready": {"python": versions(), "proof": proof()}})
    # Isolated mode leaves it out: a notebook's modules lie beside it. Not before the shim knows us: a
    # `random.py` of the notebook's would run in the middle of our own imports, or end them.
    sys.path.insert(0, "")
    executor.serve()
    raise AssertionError("the loop has no end")


def _channel() -> Channel:
    path = library()
    try:
        return Channel(Native(path))
    except (OSError, ValueError, AttributeError) as error:
        # Without the library nothing can be sent: stderr is all there is.
        os.write(2, f"cellblock worker: cannot load {path}: {error}\n".encode("utf-8", "replace"))
        os._exit(EXIT_INTERNAL)


def library() -> str:
    """Where the native library lies."""
    return os.environ.pop("CELLBLOCK_NATIVE", "/cellblock/libcellblock_native.so")


def prepare_environment() -> None:
    """What must stand before the first import of a package."""
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # Plotly's default emits its whole JavaScript, 4.8 MB a figure.
    os.environ.setdefault("PLOTLY_RENDERER", "plotly_mimetype")
    plotly_support.install()
    pillow_support.install()
    tqdm_support.install()


def seed_fonts() -> None:
    """Without the list of fonts the first figure takes 1.5 s longer."""
    cache, target = os.environ.get("CELLBLOCK_CACHE"), os.environ.get("MPLCONFIGDIR")
    if cache and target:
        with contextlib.suppress(OSError):
            for fonts in (Path(cache) / "matplotlib").glob("fontlist*.json"):
                Path(target).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fonts, Path(target) / fonts.name)


def cure(package: str) -> str:
    """What to do about a package that the worker needs."""
    return (
        f"{package} is not installed for {sys.executable}: "
        f"install it with `{sys.executable} -m pip install ipython dill`"
    )
