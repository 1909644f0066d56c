"""Reads what /proc tells of pid 1."""

import os

from attack import attempt, saw


def read(path):
    with open(path, "rb") as file:
        file.read(1)


for name in ("environ", "maps", "mem"):
    attempt(
        name,
        lambda name=name: read(f"/proc/1/{name}") if name != "mem" else os.close(os.open("/proc/1/mem", 0)),
    )
attempt("fd", lambda: os.listdir("/proc/1/fd") and None)
attempt("root", lambda: os.listdir("/proc/1/root/") and None)
attempt("ns", lambda: os.close(os.open("/proc/1/ns/mnt", 0)))
saw()
