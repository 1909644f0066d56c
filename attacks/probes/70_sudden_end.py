"""Ends the interpreter: by exit, by a crash, by an endless recursion in C, by becoming another program."""

import ctypes
import os
import resource

from attack import GIVEN, outside

if outside():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def overflow():
    # A comparison that calls sort, whose comparison calls sort: the stack is the C library's.
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    libc = ctypes.CDLL(None)
    numbers = (ctypes.c_int * 2)(2, 1)
    called = compare(lambda *_: libc.qsort(numbers, 2, 4, called) or 0)
    libc.qsort(numbers, 2, 4, called)


variant = GIVEN["variant"]
print("saw: begun=yes", flush=True)
if variant == "exit":
    os._exit(3)
elif variant == "crash":
    ctypes.string_at(0)
elif variant == "kill":
    os.kill(os.getpid(), 9)
elif variant == "become":
    os.execv("/bin/false", ["false"])
