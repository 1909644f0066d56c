"""Makes a BPF map, the least that bpf(2) can do."""

import ctypes
import os
import struct

from attack import attempt, saw, syscall

array = ctypes.create_string_buffer(struct.pack("<IIII", 2, 4, 4, 1), 120)
attempt("map", lambda: os.close(syscall("bpf", 0, array, 120)))
saw()
