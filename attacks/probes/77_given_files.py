"""Changes mode and times of what it was given to read, by name and through descriptors, to what they are."""

import os
import stat
import sys

from attack import GIVEN, attempt, outside, saw


def change(path, how):
    number = os.open(path, os.O_RDONLY)
    try:
        how(number, os.fstat(number))
    finally:
        os.close(number)


def mode(number, found):
    os.fchmod(number, stat.S_IMODE(found.st_mode))


def times(number, found):
    os.utime(number, ns=(found.st_atime_ns, found.st_mtime_ns))


places = [("payload", "/cellblock/libcellblock_native.so"), ("cache", "/cellblock/cache")]
if outside():
    places = [("payload", GIVEN["canary"]), ("cache", GIVEN["folder"])]
for name, path in [*places, ("interpreter", os.path.realpath(sys.executable)), ("library", os.__file__)]:
    attempt(name, lambda path=path: change(path, mode))
    attempt(f"{name}_times", lambda path=path: change(path, times))


def touch():
    """The times of what standard input is; to set them to now takes no more than leave to write."""
    number = os.open(GIVEN["canary"], os.O_RDONLY) if outside() else os.dup(0)
    try:
        os.utime(number)
    finally:
        os.close(number)


attempt("stdin", touch)
saw()
