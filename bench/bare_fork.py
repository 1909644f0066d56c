"""The floor of a warm start: a Python that has imported already, cloned once into new namespaces, the code.

No root of its own, no limits, no engine, no protocol: what is forked from a warm interpreter takes at least
so long. Run by the worker's Python: `python bare_fork.py MODULES CODE`; for each line of stdin one run, of
which it prints the nanoseconds and the result.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import sys
import time

_NEW_USER, _NEW_PID, _NEW_MOUNT = 0x10000000, 0x20000000, 0x00020000
_NEW_NET, _NEW_IPC, _NEW_UTS = 0x40000000, 0x08000000, 0x04000000
_CLONE3 = 435
"""The same number on every architecture."""


class _Arguments(ctypes.Structure):
    """`struct clone_args`, as far as the first kernel with it knew it."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls")
    ]


def main() -> None:
    """Reads lines until there are none."""
    modules, code = sys.argv[1:]
    for module in modules.split():
        importlib.import_module(module)
    compiled = compile(code, "<cell>", "eval")
    # With the GIL held: the child goes on as the one thread that there is.
    system_call = ctypes.PyDLL(None, use_errno=True).syscall
    arguments = _Arguments(
        flags=_NEW_USER | _NEW_PID | _NEW_MOUNT | _NEW_NET | _NEW_IPC | _NEW_UTS, exit_signal=signal.SIGCHLD
    )
    gc.freeze()
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.perf_counter_ns()
        ours, theirs = os.pipe()
        pid = system_call(
            ctypes.c_long(_CLONE3), ctypes.byref(arguments), ctypes.c_size_t(ctypes.sizeof(arguments))
        )
        if pid == 0:
            os.write(theirs, repr(eval(compiled)).encode())
            os._exit(0)
        if pid < 0:
            raise OSError(ctypes.get_errno(), "clone3 failed")
        os.close(theirs)
        result = os.read(ours, 1000).decode()
        print(time.perf_counter_ns() - began, result, flush=True)
        os.close(ours)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
