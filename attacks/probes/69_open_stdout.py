"""Leaves a process behind that keeps standard output open for a while."""

import os
import time

from attack import note, saw

if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(1.5)
    os._exit(0)
os.wait()
note("stdout", "held")
saw()
