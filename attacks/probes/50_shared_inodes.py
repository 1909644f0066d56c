"""Feels a neighbour's lock on a file that both see, and watches a folder that both see."""

import fcntl
import os

from attack import attempt, checked, libc, saw


def lock():
    number = os.open("/usr/bin/env", os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(number)


def watch():
    number = checked(libc.inotify_init1(0o4000))
    try:
        checked(libc.inotify_add_watch(number, b"/usr/bin", 0x20))
    finally:
        os.close(number)


attempt("flock", lock)
attempt("inotify", watch)
saw()
