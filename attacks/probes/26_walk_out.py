"""Walks up and out of its root, and to a file of the host that anybody may read."""

import os

from attack import GIVEN, attempt, note, saw

up = os.open("../" * 30, os.O_PATH)
note("top", "root" if os.fstat(up).st_ino == os.stat("/").st_ino else "beyond")


def read(path):
    with open(path) as file:
        return file.read() and None


attempt("secret", lambda: read(GIVEN["secret"]))
attempt("by_cwd", lambda: read("/proc/self/cwd/" + "../" * 30 + GIVEN["secret"]))
attempt("by_root", lambda: read("/proc/self/root" + GIVEN["secret"]))
os.close(up)
saw()
