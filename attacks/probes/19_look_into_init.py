"""Debugs, reads and robs pid 1."""

import ctypes
import os

from attack import attempt, child, saw, syscall


def steal():
    pidfd = syscall("pidfd_open", 1, 0)
    try:
        os.close(syscall("pidfd_getfd", pidfd, 0, 0))
    finally:
        os.close(pidfd)


def trace():
    # Seize, so that it is not stopped; our end lets go of it.
    attempt("ptrace", lambda: syscall("ptrace", 0x4206, 1, 0, 0) and None)


class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


def read():
    target = ctypes.create_string_buffer(8)
    try:
        with open("/proc/1/maps") as maps:
            start = int(maps.readline().partition("-")[0], 16)
    except OSError:
        # Whether we may is asked before what is there: whoever may is told EFAULT.
        start = 0x1000
    here = Part(ctypes.addressof(target), 8)
    there = Part(start, 8)
    syscall("process_vm_readv", 1, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)


child(trace)
attempt("read", read)
attempt("steal", steal)
saw()
