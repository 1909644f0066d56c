"""Speaks something on the worker's own channel that is no frame, or no frame for this moment."""

import json
import os
import socket
import struct
import time

from attack import GIVEN, note, saw

REQUEST, EVENT = 1, 6


def frame(body, kind=EVENT, magic=0xCB, codec=1, meta_bytes=None, payload_bytes=0):
    meta = json.dumps(body).encode() if isinstance(body, dict) else body
    size = len(meta) if meta_bytes is None else meta_bytes
    return struct.pack("<BBBBIII", magic, kind, codec, 0, 0, size, payload_bytes) + meta


display = {"display": {"bundle": {"parts": []}}}
own = {"mark": 0, "body": {"output": {"execution": GIVEN["execution"], "output": display}}}
frames = {
    "honest": frame(own),
    "huge": frame(own, meta_bytes=0xFFFFFFFF),
    "huge_payload": frame(own, payload_bytes=0xFFFFFFFF),
    "short": b"\xcb\x06",
    "cut_off": frame(own)[:-3],
    "garbage": bytes(range(256)),
    "version": frame(own, magic=0xCC),
    "kind": frame(own, kind=REQUEST),
    "state": frame({"mark": 0, "body": {"ready": {"python": "mine", "proof": []}}}),
}
socket.socket(fileno=os.dup(3)).send(frames[GIVEN["variant"]])
if GIVEN["variant"] != "honest":
    time.sleep(4)
note("sent", "done")
saw()
