"""A few bytes that claim to be a list of 2^60 elements, in the codec that counts beforehand."""

import os
import socket
import struct
import time

from attack import GIVEN, note, saw

honest = b'{"mark":0,"body":{"output":{"execution":"%s","output":{"display":{"bundle":{"parts":[]}}}}}}'
honest = honest % GIVEN["execution"].encode()
# bincode writes a length above 250 as 253 and eight bytes.
bomb = b"\x00\x03" + b"\xfd" + struct.pack("<Q", 1 << 60) * 4
deep = b'{"mark":0,"body":' + b"[" * 60_000
codec, meta = {"honest": (1, honest), "bincode": (2, bomb), "json": (1, deep)}[GIVEN["variant"]]
socket.socket(fileno=os.dup(3)).send(struct.pack("<BBBBIII", 0xCB, 6, codec, 0, 0, len(meta), 0) + meta)
if GIVEN["variant"] != "honest":
    time.sleep(4)
note("sent", "done")
saw()
