"""Opens knobs of the kernel for writing; writes one, with what it has already."""

import os

from attack import attempt, saw


def open_to_write(path):
    os.close(os.open(path, os.O_WRONLY))


def rewrite(path):
    with open(path) as file:
        value = file.read()
    with open(path, "w") as file:
        file.write(value)


for name, path in (
    ("core_pattern", "/proc/sys/kernel/core_pattern"),
    ("modprobe", "/proc/sys/kernel/modprobe"),
    ("sysrq", "/proc/sysrq-trigger"),
):
    attempt(name, lambda path=path: open_to_write(path))
attempt("msgmni", lambda: rewrite("/proc/sys/kernel/msgmni"))
saw()
