"""Waits inside vfork, which no SIGINT ends, for a child that takes its time."""

import os
import signal
import time

from attack import note, outside, saw, syscall

seconds = 0.4 if outside() else 20
handled = []
signal.signal(signal.SIGINT, lambda *_: handled.append(time.monotonic()))
begun = time.monotonic()
parent = os.getpid()
if syscall("clone", 0x4000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:  # CLONE_VFORK
    os.kill(parent, signal.SIGINT)
    time.sleep(seconds)
    os._exit(0)
os.wait()
note("vfork", "waited" if time.monotonic() - begun >= seconds else "ended")
saw()
