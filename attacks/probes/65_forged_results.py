"""Says that an Execution has ended which is not its own, and prints frames as if they were text."""

import json
import os
import socket
import struct
import sys
import time

from attack import GIVEN, note, saw


def finished(execution):
    names = {"added": [], "changed": [], "removed": []}
    body = {"execution": execution, "end": "ok", "execution_count": 1, "names": names, "expressions": []}
    meta = json.dumps({"mark": 0, "body": {"finished": body}}).encode()
    return struct.pack("<BBBBIII", 0xCB, 6, 1, 0, 0, len(meta), 0) + meta


channel = socket.socket(fileno=os.dup(3))
variant = GIVEN["variant"]
if variant == "honest":
    sys.stdout.buffer.write(finished("another"))
    print()
elif variant == "another":
    channel.send(finished("another"))
    time.sleep(4)
elif variant == "twice":
    channel.send(finished(GIVEN["execution"]))
    channel.send(finished(GIVEN["execution"]))
    time.sleep(4)
note("sent", "done")
saw()
