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
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from . import matplotlib_support, pillow_support, plotly_support, tqdm_support
from .channel import EXIT_INTERNAL, SOCKET_FD, Channel
from .interrupt import PAGE_FD, Interrupts
from .native import Native
from .text import Text

if TYPE_CHECKING:
    from .executor import Executor
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
    interrupts = Interrupts(channel.native)
    interrupts.rest()
    try:
        parts = Parts.build(channel, interrupts)
        serve(parts, begin(parts))
    except ImportError as error:
        channel.send({"unfit": {"detail": f"{cure('IPython')} ({error})"}})
        os._exit(EXIT_UNFIT)


class Parts:
    """What is there before a worker is."""

    # No dataclass: making one takes a hundredth of the whole start.
    def __init__(self, channel: Channel, interrupts: Interrupts, text: Text, shell: Shell) -> None:
        self.channel = channel
        self.interrupts = interrupts
        self.text = text
        self.shell = shell

    @classmethod
    def build(cls, channel: Channel, interrupts: Interrupts) -> Parts:
        """Imports what every worker needs, and makes its shell. Nothing is of one process yet."""
        # First: who keeps `sys.stderr` from here on, such as a logger, keeps ours.
        text = Text(channel)
        text.install()
        # Not used here: `begin` and `serve` find them imported.
        from . import attribution, bokeh_support, executor, profile, proof, spawn  # noqa: F401
        from .publish import Outputs
        from .shell import Shell

        outputs = Outputs(channel)
        shell = Shell.make(outputs, interrupts)
        outputs.widgets.install()
        shell.events.register("post_execute", outputs.widgets.catch_up)
        bokeh_support.install(outputs)
        attribution.follow_threads()
        spawn.watch(text, interrupts)
        return cls(channel, interrupts, text, shell)


def open_channel(channel: Channel, nonce: bytes) -> None:
    """Takes the descriptors that the shim has given this process."""
    # Before anything can start a process.
    close_on_exec(SOCKET_FD, PAGE_FD)
    channel.native.begin(nonce)
    channel.open()


def close_on_exec(*fds: int) -> None:
    """Keeps descriptors from the programs that this process starts."""
    for fd in fds:
        # A missing page is allowed, see interrupt.py.
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)


def begin(parts: Parts) -> Executor:
    """What belongs to one process: its loop, its signal, its forks."""
    from .executor import Executor

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    parts.interrupts.attach(loop)
    parts.text.watch_forks()
    os.register_at_fork(after_in_child=parts.interrupts.become_child)
    return Executor(loop, parts.channel, parts.text, parts.shell, parts.interrupts)


def serve(parts: Parts, executor: Executor) -> NoReturn:
    """Says that the worker is there, and runs what it is sent."""
    from .proof import proof, versions

    parts.shell.arrive()
    parts.channel.send({"ready": {"python": versions(), "proof": proof()}})
    # Isolated mode leaves it out: a notebook's modules lie beside it. Not before the shim knows us: a
    # `random.py` of the notebook's would run in the middle of our own imports, or end them.
    sys.path.insert(0, "")
    matplotlib_support.read_settings()
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
