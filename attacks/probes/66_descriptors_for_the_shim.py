"""Sends 60 descriptors at a time to its shim, a hundred times."""

import json
import os
import socket
import struct
import time

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
    sent, tries, deadline = 0, 0, time.monotonic() + 5
    # The kernel counts what is under way of a user, in all sandboxes: one message at least is to arrive.
    while tries < 100 or (not sent and time.monotonic() < deadline):
        tries += 1
        try:
            socket.send_fds(channel, [frame], [0] * 60)
            sent += 1
        except OSError:
            pass
    note("sent", "done" if sent else "refused")
saw()
