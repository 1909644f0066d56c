"""What every probe has at hand. A probe is run twice: as a cell, and outside by the same Python.

It notes what it saw, thing by thing, and prints all of it as its last line. Nothing in a probe is
unbounded, so that it hurts nobody where the barrier that should stop it is missing.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import sys
from collections.abc import Callable
from typing import Any

# What the harness tells: paths, ports, numbers. Filled in before the probe begins.
GIVEN: dict[str, Any] = {}

libc = ctypes.CDLL(None, use_errno=True)

_NUMBERS = {
    "x86_64": {
        "acct": 163, "add_key": 248, "adjtimex": 159, "bpf": 321, "clone": 56, "fsopen": 430,
        "init_module": 175, "ioprio_set": 251, "io_uring_setup": 425, "kexec_load": 246, "keyctl": 250,
        "memfd_secret": 447, "mount": 165, "move_mount": 429, "open_tree": 428, "perf_event_open": 298,
        "pidfd_getfd": 438, "pidfd_open": 434, "pivot_root": 155, "process_vm_readv": 310, "ptrace": 101,
        "reboot": 169, "setns": 308, "swapon": 167, "syslog": 103, "umount2": 166, "unshare": 272,
        "userfaultfd": 323, "sched_setscheduler": 144,
    },
    "aarch64": {
        "acct": 89, "add_key": 217, "adjtimex": 171, "bpf": 280, "clone": 220, "fsopen": 430,
        "init_module": 105, "ioprio_set": 30, "io_uring_setup": 425, "kexec_load": 104, "keyctl": 219,
        "memfd_secret": 447, "mount": 40, "move_mount": 429, "open_tree": 428, "perf_event_open": 241,
        "pidfd_getfd": 438, "pidfd_open": 434, "pivot_root": 41, "process_vm_readv": 270, "ptrace": 117,
        "reboot": 142, "setns": 268, "swapon": 224, "syslog": 116, "umount2": 39, "unshare": 97,
        "userfaultfd": 282, "sched_setscheduler": 119,
    },
}  # fmt: skip

_seen: list[str] = []


def outside() -> bool:
    """Whether this is the control."""
    return bool(GIVEN.get("outside"))


def note(name: str, value: object) -> None:
    """Keeps one thing that was seen."""
    _seen.append(f"{name}={value}")


def reason(error: BaseException) -> str:
    """The errno's name, or the exception's."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error.errno))
    return type(error).__name__


def attempt(name: str, what: Callable[[], Any]) -> Any:
    """Tries it and notes `done`, or why not. Returns what it returned."""
    try:
        result = what()
    except (OSError, MemoryError, RuntimeError, ValueError) as error:
        note(name, reason(error))
        return None
    note(name, "done")
    return result


def checked(result: int) -> int:
    """The result of a C function, or its error as an exception."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(name: str, *arguments: Any) -> int:
    """A system call by name."""
    long = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    number = _NUMBERS[platform.machine()][name]
    libc.syscall.restype = ctypes.c_long
    return checked(libc.syscall(ctypes.c_long(number), *long))


def child(what: Callable[[], None], name: str = "child") -> int:
    """Runs it in a child, whose notes become ours, so that it changes nothing here. Returns its status."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            _seen.clear()
            what()
        except BaseException as error:
            note(name, reason(error))
        finally:
            os.write(write, json.dumps(_seen).encode())
            os._exit(0)
    os.close(write)
    told = b""
    while part := os.read(read, 65536):
        told += part
    os.close(read)
    status = os.waitpid(pid, 0)[1]
    _seen.extend(json.loads(told or b"[]"))
    return status


def network_is_empty() -> bool:
    """Whether this is a network namespace of its own with nothing in it. Else no socket is made."""
    if outside():
        return True
    inode = os.stat("/proc/self/ns/net").st_ino
    with open("/proc/self/net/dev") as devices:
        names = [line.partition(":")[0].strip() for line in devices.readlines()[2:]]
    if inode == GIVEN["host_network"] or names != ["lo"]:
        print("saw: host network", flush=True)
        return False
    return True


def saw() -> None:
    """The last line."""
    sys.stdout.flush()
    print("saw: " + "; ".join(_seen), flush=True)
