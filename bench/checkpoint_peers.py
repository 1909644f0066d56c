"""A fresh process of one of the checkpoints' peers, in the peers' own environment: runs cells, saves, loads.

It is started with `-c`, so that `__main__` is the user's alone. Requests are lines of JSON on stdin, and so
are the replies on what was stdout; `checkpoint_systems.Peer` asks.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pickle
import resource
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

_HIDDEN: Final = "_"
"""Names that begin with it are nobody's variables."""


class System(Protocol):
    """One way to save a namespace."""

    @property
    def namespace(self) -> dict[str, Any]:
        """The user's variables."""
        ...

    def cell(self, code: str) -> dict[str, Any]:
        """Runs it, and saves everything; what that took."""
        ...

    def load(self, saved: Any) -> None:
        """What another process has saved; it said this of it."""
        ...


class Meter:
    """Adds up what blocks the user: time, processor time, and the bytes handed to the kernel."""

    def __init__(self) -> None:
        self._sums = [0.0, 0.0, 0.0]
        self._began: list[float] = []

    def start(self) -> None:
        """From here on."""
        self._began = _readings()

    def stop(self) -> None:
        """To here."""
        passed = [now - then for now, then in zip(_readings(), self._began, strict=True)]
        self._sums = [before + more for before, more in zip(self._sums, passed, strict=True)]

    def take(self) -> dict[str, float]:
        """What has come together, and begins anew."""
        seconds, cpu_seconds, written = self._sums
        self._sums = [0.0, 0.0, 0.0]
        return {"pause_ms": 1e3 * seconds, "cpu_seconds": cpu_seconds, "bytes": written}


def _readings() -> list[float]:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    written = Path("/proc/self/io").read_text().partition("wchar:")[2].split()[0]
    return [time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used), float(written)]


class Whole(ABC):
    """Saves all of it into one file after each cell: dill and cloudpickle."""

    def __init__(self, folder: Path) -> None:
        self.namespace = vars(sys.modules["__main__"])
        self._file = folder / "saved"
        self._meter = Meter()

    def cell(self, code: str) -> dict[str, Any]:
        """Runs it, and saves everything; what that took."""
        exec(compile(code, "<cell>", "exec"), self.namespace)
        self._meter.start()
        self._save(self._file)
        self._meter.stop()
        return {**self._meter.take(), "saved": None}

    def load(self, saved: Any) -> None:
        """What another process has saved; it said this of it."""
        self._load(self._file)

    @abstractmethod
    def _save(self, file: Path) -> None: ...

    @abstractmethod
    def _load(self, file: Path) -> None: ...


class Dill(Whole):
    """`dump_module` and `load_module`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._dill = importlib.import_module("dill")

    def _save(self, file: Path) -> None:
        self._dill.dump_module(str(file))

    def _load(self, file: Path) -> None:
        self._dill.load_module(str(file))


class Cloudpickle(Whole):
    """The namespace as a dict, in one `dumps`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._cloudpickle = importlib.import_module("cloudpickle")

    def _save(self, file: Path) -> None:
        variables = {name: value for name, value in self.namespace.items() if name[0] != _HIDDEN}
        file.write_bytes(self._cloudpickle.dumps(variables, protocol=5))

    def _load(self, file: Path) -> None:
        self.namespace.update(pickle.loads(file.read_bytes()))


class Kishu:
    """In a real IPython shell, instrumented by `init_kishu` as a user does it; it saves by itself.

    Its own switches say that no front end is to be asked to store the notebook's file, for which it would
    wait up to a second at each end.
    """

    def __init__(self, folder: Path) -> None:
        notebook = folder / "notebook.ipynb"
        os.environ |= {
            "KISHU_PATH_ROOT": str(folder),
            "IPYTHONDIR": str(folder / "ipython"),
            "ENV_KISHU_TEST_MODE": "1",
            "TEST_NOTEBOOK_PATH": str(notebook),
        }
        if not notebook.exists():
            nbformat = importlib.import_module("nbformat")
            nbformat.write(nbformat.v4.new_notebook(), notebook)
        shell_module = importlib.import_module("IPython.core.interactiveshell")
        self._shell = shell_module.InteractiveShell.instance()
        self._meter = Meter()
        # Ours come before its own, and after.
        for event in ("pre_run_cell", "post_run_cell"):
            self._shell.events.register(event, self._start)
        begin = f"from kishu import init_kishu\ninit_kishu({str(notebook)!r})"
        with contextlib.redirect_stdout(io.StringIO()):
            self._shell.run_cell(begin).raise_error()
        for event in ("pre_run_cell", "post_run_cell"):
            self._shell.events.register(event, self._stop)

    @property
    def namespace(self) -> dict[str, Any]:
        """The user's; it is replaced by one that is watched."""
        found: dict[str, Any] = self._shell.user_ns
        return found

    def _start(self, _: object) -> None:
        self._meter.start()

    def _stop(self, _: object) -> None:
        self._meter.stop()

    def cell(self, code: str) -> dict[str, Any]:
        """Runs it, and saves everything; what that took."""
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            result = self._shell.run_cell(code, store_history=True)
        # What its callbacks raise IPython prints, and goes on.
        if not result.success or "Traceback" in told.getvalue() or "Error in callback" in told.getvalue():
            raise RuntimeError(told.getvalue()[-1000:])
        head = self.namespace["_kishu"]._kishu_branch.get_head()
        return {**self._meter.take(), "saved": head.commit_id}

    def load(self, saved: Any) -> None:
        """What another process has saved; it said this of it."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.namespace["_kishu"].checkout(saved)


SYSTEMS: Final[dict[str, Callable[[Path], System]]] = {
    "dill": Dill,
    "cloudpickle": Cloudpickle,
    "kishu": Kishu,
}


def main() -> None:
    """The process."""
    name, folder = sys.argv[1:]
    # What cells print is nobody's reply.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for module in ("numpy", "pandas"):
        importlib.import_module(module)
    system = SYSTEMS[name](Path(folder))
    replies.write("{}\n")
    for line in sys.stdin:
        try:
            reply = _answer(system, json.loads(line))
        except Exception as error:
            reply = {"failed": f"{type(error).__name__}: {error}"[:1000]}
        replies.write(json.dumps(reply) + "\n")


def _answer(system: System, request: dict[str, Any]) -> dict[str, Any]:
    match request:
        case {"cell": code}:
            return system.cell(code)
        case {"load": saved, "first": expression}:
            began = time.perf_counter()
            system.load(saved)
            first = repr(eval(expression, system.namespace))
            return {"milliseconds": 1e3 * (time.perf_counter() - began), "first": first}
        case {"look": code, "names": names}:
            scope: dict[str, Any] = {}
            exec(compile(code, "<look>", "exec"), scope)
            return {"found": scope["look"](system.namespace, names)}
    raise ValueError(f"unknown request: {request}")
