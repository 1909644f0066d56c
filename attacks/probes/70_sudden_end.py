"""Ends the interpreter: by exit, by a crash, by an endless recursion in C, by becoming another program."""

import ctypes
import os
import resource

from attack import GIVEN, outside

if outside():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def overflow():
    # The C library reads groups of a regular expression by recursion, and counts nothing.
    ctypes.CDLL(None).regcomp(ctypes.create_string_buffer(256), b"(" * 2_000_000, 1)


variant = GIVEN["variant"]
print("saw: begun=yes", flush=True)
if variant == "exit":
    os._exit(3)
elif variant == "crash":
    ctypes.string_at(0)
elif variant == "overflow":
    overflow()
elif variant == "kill":
    os.kill(os.getpid(), 9)
elif variant == "become":
    os.execv("/bin/false", ["false"])
