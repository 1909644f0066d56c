"""Six children, none of which is too large by itself."""

import os
import signal
import time

from attack import GIVEN, attempt, saw

share = GIVEN["memory_bytes"] // 5
children = []


def multiply():
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            kept = bytearray(b"x") * share
            time.sleep(8 if kept else 0)
            os._exit(0)
        children.append(pid)
        time.sleep(0.02)
    time.sleep(2.5)


attempt("children", multiply)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
saw()
