"""Gives a file of its own a capability."""

import os
import struct

from attack import attempt, saw

with open("capable", "w"):
    pass
# Version 2, CAP_NET_RAW permitted and effective.
value = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
attempt("xattr", lambda: os.setxattr("capable", "security.capability", value))
os.unlink("capable")
saw()
