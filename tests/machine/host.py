"""A machine on which cellblock is installed, and what one asks it: for the programs beside this one."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import subprocess
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unit import connect

import cellblock

UNITS = ("cellblockd.socket", "cellblockd.service", "cellblock-workers.service")
SOCKET = Path("/run/cellblock/cellblockd.sock")
GROUP = Path("/sys/fs/cgroup/system.slice/cellblock-workers.service")
STATE = Path("/var/lib/cellblock")
SETTINGS = Path("/etc/cellblock/cellblockd.env")
MEMBER, STRANGER, ALONE = "ann", "bob", "carol"
# Ids of the host that workers have.
WORKERS = range(1_879_048_192, 1_879_048_192 + 65_536)
PATIENCE = 300.0


class Machine:
    """What is checked, and how much of it was wrong."""

    def __init__(self, options: Namespace) -> None:
        self.options = options
        self.wrong = 0

    def tell(self, name: str, passed: bool, detail: object = "") -> None:
        self.wrong += not passed
        print(f"{'ok    ' if passed else 'FAILED'} {name}: {str(detail).strip()}", flush=True)

    def groups(self, notebook: str) -> list[Path]:
        """Those of a notebook's sandbox."""
        return list(GROUP.glob(f"{notebook}-*"))


class Service:
    """cellblockd as a service, and an ordinary user of it: the system's, or that user's own."""

    def __init__(self, user: str, *, own: bool = False) -> None:
        self.user, self.own = user, own

    @property
    def socket(self) -> Path:
        return self._runtime() / "cellblock/cellblockd.sock" if self.own else SOCKET

    @contextmanager
    def client(self) -> Iterator[cellblock.Client]:
        """A connection of the user's."""
        with as_user(self.user), connect(self.socket) as client:
            yield client

    def systemctl(self, *words: str) -> str:
        return self._systemctl(*words, check=True).stdout

    def pid(self, unit: str) -> int:
        return int(self.systemctl("show", "-PMainPID", unit))

    def active(self, unit: str) -> bool:
        return self._systemctl("is-active", "--quiet", unit).returncode == 0

    def failed(self) -> list[str]:
        """Its units that have."""
        return [unit for unit in UNITS if self._systemctl("is-failed", "--quiet", unit).returncode == 0]

    def stop(self) -> float:
        """Daemon and socket; how long it took until the workers' unit had ended, too."""
        began = time.monotonic()
        self.systemctl("stop", "cellblockd.socket", "cellblockd.service")
        until("the workers' end", lambda: not self.active("cellblock-workers.service"))
        return time.monotonic() - began

    def _systemctl(self, *words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        if not self.own:
            return must("systemctl", *words) if check else run("systemctl", *words)
        environment = {"XDG_RUNTIME_DIR": str(self._runtime()), "PATH": os.environ["PATH"]}
        command = ["systemctl", "--user", *words]
        done = subprocess.run(
            ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups", *command],
            check=False, capture_output=True, text=True, user=0, group=0, env=environment,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done

    def _runtime(self) -> Path:
        return Path("/run/user", str(pwd.getpwnam(self.user).pw_uid))


SYSTEM = Service(MEMBER)
OWN = Service(ALONE, own=True)


def counting(lines: int) -> str:
    """A cell that prints for a tenth of a second per line."""
    return f"import time\nfor n in range({lines}):\n    print(n, flush=True)\n    time.sleep(0.1)\nn + x"


def counted(lines: int) -> str:
    """What it has printed then."""
    return "".join(f"{n}\n" for n in range(lines))


def begin(notebook: cellblock.Notebook, code: str) -> tuple[cellblock.Execution, cellblock.Output]:
    """Runs it until it has put something out."""
    execution = notebook.execute(code)
    execution.wait_accepted(PATIENCE)
    return execution, next(execution)


def finish(execution: cellblock.Execution, first: cellblock.Output) -> cellblock.Completed:
    """Reads it to its end; what was read before included."""
    result = execution.result(PATIENCE)
    return cellblock.Completed([first, *result.outputs], result.outcome)


@contextmanager
def as_user(name: str) -> Iterator[None]:
    user = pwd.getpwnam(name)
    groups = os.getgroups()
    os.setgroups([group.gr_gid for group in grp.getgrall() if name in group.gr_mem])
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@contextmanager
def as_root() -> Iterator[None]:
    """Within `as_user`."""
    user, group = os.geteuid(), os.getegid()
    os.seteuid(0)
    os.setegid(0)
    try:
        yield
    finally:
        os.setegid(group)
        os.seteuid(user)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """As root, whoever we are just now."""
    return subprocess.run(
        command, check=False, capture_output=True, text=True, errors="replace", user=0, group=0
    )


def must(*command: str) -> subprocess.CompletedProcess[str]:
    done = run(*command)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done


def journal(*words: str) -> list[dict[str, Any]]:
    """Entries of the journal, e.g. those of a field."""
    lines = must("journalctl", "--no-pager", "--output=json", *words).stdout.splitlines()
    return [json.loads(line) for line in lines]


def field(process: int, name: str) -> str:
    """A line of a process's status."""
    found = re.search(rf"^{name}:\s*(\S+)", readable(Path(f"/proc/{process}/status")), re.MULTILINE)
    return found[1] if found else ""


def figure(path: Path, name: str) -> int:
    """One of a cgroup's figures; 0 when it is not there."""
    found = re.search(rf"^{name} (\d+)$", readable(path), re.MULTILINE)
    return int(found[1]) if found else 0


def left() -> list[str]:
    """Processes, groups, mounts, loop devices, sockets and folders of what was stopped."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        words = readable(folder / "cmdline").split("\0")
        ours = Path(words[0]).name in ("cellblockd", "cellblock-shim") or "cellblock_worker" in str(words)
        if ours or int(field(int(folder.name), "Uid") or 0) in WORKERS:
            found.append(f"process {folder.name} {words[:3]}")
    found += [str(path) for path in (GROUP, Path("/run/cellblock-workers"), SOCKET) if path.exists()]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob("cellblock-*")]
    found += sorted(mounts() - MOUNTED)
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        if str(STATE) in readable(backing):
            found.append(readable(backing))
    return found


def mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line for line in lines if "cellblock" in line}


# The state may lie on a disk of its own.
MOUNTED = mounts()


def readable(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def until(what: str, look: Callable[[], bool], bound: float = PATIENCE) -> bool:
    """Whether it came to be in time."""
    deadline = time.monotonic() + bound
    while not look():
        if time.monotonic() > deadline:
            print(f"waited {bound:.0f} s in vain: {what}", flush=True)
            return False
        time.sleep(0.05)
    return True


def last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
