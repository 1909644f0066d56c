"""What a cellblockd has of the machine: counted before and after, so that nothing is left."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from pathlib import Path
from typing import Final, TypeAlias

from tests.faults import processes
from tests.faults.daemon import Daemon

Census: TypeAlias = dict[str, int]

_GROUPS: Final = Path("/sys/fs/cgroup")
_SETTLED_SECONDS: Final = 45.0


def take(daemon: Daemon) -> Census:
    """All that can be counted, by what it is."""
    mark = daemon.home.name
    found: Counter[str] = Counter()
    for process in processes.marked(mark):
        if process.pid != daemon.pid:
            found[f"process {_role(process.pid)}"] += 1
    found["mounts"] = len(processes.mounts(mark))
    found["loop devices"] = len(processes.loops(mark))
    anchor = daemon.anchor()
    found["cgroups"] = 0 if anchor is None else len(groups(anchor.pid))
    for kind, count in descriptors(daemon.pid).items():
        found[f"cellblockd's {kind}"] = count
    for folder in ("run", "state"):
        root = daemon.home / folder if folder == "run" else daemon.state
        for path in root.rglob("*"):
            # Logs grow; what is below a notebook counts as the notebook.
            if len(path.relative_to(root).parts) <= 3:
                found[f"files in {folder}"] += 1
    return dict(sorted(found.items()))


def settled(daemon: Daemon, wanted: Census | None = None) -> Census:
    """When it is as wanted, or does not change any more; what goes, goes soon."""
    until = time.monotonic() + _SETTLED_SECONDS
    last, since = take(daemon), time.monotonic()
    while time.monotonic() < until:
        if wanted is None and time.monotonic() - since > 2:
            break
        if wanted is not None and not more(wanted, last):
            break
        time.sleep(0.25)
        now = take(daemon)
        if now != last:
            last, since = now, time.monotonic()
    return last


def more(before: Census, after: Census) -> dict[str, tuple[int, int]]:
    """What there is more of than before."""
    return {
        name: (before.get(name, 0), count) for name, count in after.items() if count > before.get(name, 0)
    }


def described(daemon: Daemon) -> list[str]:
    """For people: which processes, descriptors and files these are."""
    lines = processes.described(processes.marked(daemon.home.name))
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{daemon.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                lines.append(f"cellblockd's {link.name}: {link.readlink()}")
    lines += [str(path) for path in (daemon.home / "run").rglob("*")]
    lines += [str(path) for path in daemon.state.rglob("*") if len(path.relative_to(daemon.state).parts) < 4]
    return lines


def groups(anchor: int) -> list[Path]:
    """The cgroups of an anchor, in all hierarchies."""
    tops = [path for path in _GROUPS.rglob(f"cellblock-{anchor}-*") if path.is_dir()]
    return [path for top in tops for path in (top, *top.rglob("*")) if path.is_dir()]


def descriptors(pid: int) -> Counter[str]:
    """A process's open files, by what they are."""
    found: Counter[str] = Counter()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(link.readlink())
                found[_kind(target)] += 1
    return found


def resident_bytes(pid: int) -> int:
    """What a process has in memory; 0 when it is gone."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        if (found := re.search(r"VmRSS:\s+(\d+) kB", text)) is not None:
            return int(found[1]) * 1024
    return 0


def processor_seconds(pid: int) -> float:
    """What a process has taken of processors; 0 when it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100
    return 0.0


def _kind(target: str) -> str:
    kind = target.partition(":")[0] if target.startswith(("socket:", "pipe:", "anon_inode:")) else "files"
    return {"socket": "sockets", "pipe": "pipes", "anon_inode": target.removeprefix("anon_inode:")}.get(
        kind, kind
    )


def _role(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        for word in ("--anchor", "--store", "--worker"):
            if word in words:
                return word.removeprefix("--")
        return Path(words[0]).name or "kernel"
    return "gone"
