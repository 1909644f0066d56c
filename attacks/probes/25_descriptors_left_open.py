"""Looks for descriptors that nobody meant for it."""

import os

from attack import note, saw

KINDS = ("/dev/null", "pipe:[", "socket:[", "/memfd:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]")
unknown = []
for name in os.listdir("/proc/self/fd"):
    try:
        target = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        continue  # The one that listed them.
    if not target.startswith(KINDS):
        unknown.append(target)
note("unknown", ",".join(unknown) or "none")
saw()
