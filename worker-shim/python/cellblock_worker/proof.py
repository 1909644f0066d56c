"""What the worker sees of its sandbox, for the SandboxReport."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_STATUS_KEYS = ("Uid", "Gid", "NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def versions() -> str:
    """E.g. `CPython 3.11.7, IPython 9.18.1`."""
    from IPython.core import release

    return f"{platform.python_implementation()} {platform.python_version()}, IPython {release.version}"


def proof() -> list[tuple[str, str]]:
    """(key, value) as /proc tells them; what cannot be read is left out."""
    found: list[tuple[str, str]] = []
    status = dict(line.partition(":")[::2] for line in _lines("/proc/self/status"))
    found += [(key, status[key].strip()) for key in _STATUS_KEYS if key in status]
    found += [("pid", str(os.getpid())), ("ppid", str(os.getppid()))]
    devices = [line.partition(":")[0].strip() for line in _lines("/proc/net/dev")[2:]]
    found.append(("interfaces", ",".join(devices)))
    found += [("max_user_namespaces", line) for line in _lines("/proc/sys/user/max_user_namespaces")[:1]]
    return found


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
