"""Makes one namespace of each other kind, and joins another process's."""

import os

from attack import attempt, child, saw, syscall

KINDS = {
    "mount": 0x00020000,
    "net": 0x40000000,
    "pid": 0x20000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
    "time": 0x00000080,
}


def join(pid):
    namespace = os.open(f"/proc/{pid}/ns/uts", 0)
    syscall("setns", namespace, 0)


for name, flag in KINDS.items():
    child(lambda name=name, flag=flag: attempt(name, lambda: syscall("unshare", flag) and None))
child(lambda: attempt("setns", lambda: join(1)))
# Its own can be opened, so that the call itself is tried.
child(lambda: attempt("setns_own", lambda: join("self")))
saw()
