"""Changes mode and times of what it was given to read, by name and through descriptors, to what they are."""

import os
import stat
import sys

from attack import GIVEN, attempt, outside, saw


def change(path):
    number = os.open(path, os.O_RDONLY)
    try:
        found = os.fstat(number)
        os.fchmod(number, stat.S_IMODE(found.st_mode))
        os.utime(number, ns=(found.st_atime_ns, found.st_mtime_ns))
    finally:
        os.close(number)


places = [("payload", "/cellblock/libcellblock_native.so"), ("cache", "/cellblock/cache")]
if outside():
    places = [("payload", GIVEN["canary"]), ("cache", GIVEN["folder"])]
for name, path in [*places, ("interpreter", os.path.realpath(sys.executable)), ("library", os.__file__)]:
    attempt(name, lambda path=path: change(path))


def touch():
    """The times of what standard input is; to set them to now takes no more than leave to write."""
    number = os.open(GIVEN["canary"], os.O_RDONLY) if outside() else os.dup(0)
    try:
        os.utime(number)
    finally:
        os.close(number)


attempt("stdin", touch)
saw()
