"""A child that has stopped heeds no SIGTERM; then the cell itself stops."""

import os
import signal

from attack import note, outside, saw


def state(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0]


pid = os.fork()
if pid == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
os.waitpid(pid, os.WUNTRACED)
os.kill(pid, signal.SIGTERM)
# It is delivered or pending as soon as kill returns.
note("after_sigterm", "stopped" if os.waitpid(pid, os.WNOHANG) == (0, 0) and state(pid) == "T" else "gone")
if outside():
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    saw()
else:
    os.kill(os.getpid(), signal.SIGSTOP)
    note("self", "went_on")
    saw()
