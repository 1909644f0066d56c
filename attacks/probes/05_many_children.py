"""Six children, none of which is too large by itself."""

import os
import signal
import time

from attack import GIVEN, attempt, outside, saw

share = GIVEN["memory_bytes"] // 5
children = []


def multiply():
    read, write = os.pipe()
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            kept = bytearray(b"x") * share
            os.write(write, b"k")
            time.sleep(8 if kept else 0)
            os._exit(0)
        children.append(pid)
    os.close(write)
    for _ in children:
        os.read(read, 1)
    os.close(read)
    # Held until whoever watches ends it; where nobody does, there is nothing to wait for.
    time.sleep(0 if outside() else 5)


attempt("children", multiply)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
saw()
