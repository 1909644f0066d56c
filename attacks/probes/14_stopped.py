"""A child that has stopped heeds no SIGTERM; then the cell itself stops."""

import os
import signal
import time

from attack import note, outside, saw

pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
os.waitpid(pid, os.WUNTRACED)
os.kill(pid, signal.SIGTERM)
time.sleep(0.05)
note("after_sigterm", "stopped" if os.waitpid(pid, os.WNOHANG) == (0, 0) else "gone")
if outside():
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    saw()
else:
    os.kill(os.getpid(), signal.SIGSTOP)
    note("self", "went_on")
    saw()
