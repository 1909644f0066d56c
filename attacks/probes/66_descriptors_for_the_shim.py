"""Sends 60 descriptors at a time to its shim, a hundred times."""

import json
import os
import socket
import struct

from attack import GIVEN, note, outside, saw

if outside():
    # Whoever takes what comes has 60 descriptors more.
    here, there = socket.socketpair()
    socket.send_fds(here, [b"x"], [0] * 60)
    note("naive_files", "more" if len(socket.recv_fds(there, 1, 100)[1]) == 60 else "same")
else:
    display = {"display": {"bundle": {"parts": []}}}
    meta = json.dumps(
        {"mark": 0, "body": {"output": {"execution": GIVEN["execution"], "output": display}}}
    ).encode()
    frame = struct.pack("<BBBBIII", 0xCB, 6, 1, 0, 0, len(meta), 0) + meta
    channel = socket.socket(fileno=os.dup(3))
    for _ in range(100):
        try:
            socket.send_fds(channel, [frame], [0] * 60)
        except OSError:
            pass  # The kernel counts what is under way, and so many are enough.
    note("sent", "done")
saw()
