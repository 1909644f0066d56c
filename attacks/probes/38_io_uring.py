"""Makes rings of io_uring, small and large, with memory of the kernel's and of its own."""

import ctypes
import os
import struct

from attack import attempt, saw, syscall


def ring(entries, flags=0):
    parameters = ctypes.create_string_buffer(struct.pack("<III", 0, 0, flags), 120)
    os.close(syscall("io_uring_setup", entries, parameters))


attempt("one", lambda: ring(1))
attempt("many", lambda: ring(4096))
# IORING_SETUP_NO_MMAP: the rings' memory is the caller's, who has given none.
attempt("own_memory", lambda: ring(1, 1 << 14))
saw()
