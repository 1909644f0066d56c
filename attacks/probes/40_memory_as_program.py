"""Runs a program that lies in memory alone, and asks for memory that nobody else may read."""

import os
import subprocess

from attack import attempt, saw, syscall


def run():
    memfd = os.memfd_create("program", 0)
    with open("/bin/true", "rb") as program:
        os.write(memfd, program.read())
    subprocess.run([f"/proc/self/fd/{memfd}"], pass_fds=[memfd], check=True)
    os.close(memfd)


attempt("memfd", run)
attempt("memfd_secret", lambda: os.close(syscall("memfd_secret", 0)))
saw()
