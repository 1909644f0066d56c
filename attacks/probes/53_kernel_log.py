"""Reads the kernel's log."""

import ctypes
import os

from attack import attempt, saw, syscall

buffer = ctypes.create_string_buffer(4096)
attempt("syslog", lambda: syscall("syslog", 3, buffer, 4096) and None)
attempt("kmsg", lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)))
saw()
