"""Writes 32 MiB more than /tmp, /dev/shm and the workspace may hold."""

import os

from attack import GIVEN, attempt, outside, saw

block = bytes(1 << 20)


def fill(folder, limit, keep=False):
    """Several files, because one alone meets the limit of one file."""
    names = []
    try:
        for number in range((limit + (32 << 20)) >> 24):
            names.append(f"{folder}/bomb{number}")
            with open(names[-1], "wb", buffering=0) as file:
                for _ in range(16):
                    if file.write(block) < len(block):
                        file.write(block)
    finally:
        for name in names:
            if not keep:
                os.unlink(name)


attempt("tmp", lambda: fill("/tmp", GIVEN["tmp_bytes"]))
attempt("shm", lambda: fill("/dev/shm", GIVEN["tmp_bytes"]))
# Who watches a workspace, and does not bound it, ends this before it can say any more.
saw()
attempt("workspace", lambda: fill(".", GIVEN["workspace_bytes"], keep=not outside()))
saw()
