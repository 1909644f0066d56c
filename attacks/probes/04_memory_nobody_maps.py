"""Keeps memory where no process's own size shows it: pipes, then a memfd."""

import fcntl
import os
import time

from attack import GIVEN, attempt, note, outside, saw

block = bytes(1 << 20)
pipes = []


def fill_pipes():
    held = 0
    for _ in range(16):
        read, write = os.pipe()
        pipes.extend((read, write))
        try:
            fcntl.fcntl(write, 1031, 1 << 20)  # F_SETPIPE_SZ
        except OSError:
            pass
        os.set_blocking(write, False)
        held += os.write(write, block)
    note("pipes_mib", held >> 20)


attempt("pipes", fill_pipes)
for number in pipes:
    os.close(number)
saw()
memfds = []


def fill_memfd():
    # Several, because one alone meets the limit of one file.
    for number in range((GIVEN["memory_bytes"] + (96 << 20)) >> 20):
        if number % 32 == 0:
            memfds.append(os.memfd_create("bomb"))
        os.write(memfds[-1], block)
    # Held until whoever watches ends it; where nobody does, there is nothing to wait for.
    time.sleep(0 if outside() else 5)


attempt("memfd", fill_memfd)
for number in memfds:
    os.close(number)
saw()
