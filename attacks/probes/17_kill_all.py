"""SIGKILL to everybody that can be seen."""

import os
import select
import signal
import time

from attack import note, saw

parent = os.getpid()
pid = os.fork()
if pid == 0:
    time.sleep(10)
    os._exit(0)
known = {1, parent, pid}
others = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in known]
watched = [os.pidfd_open(pid) for pid in others]
try:
    os.kill(-1, signal.SIGKILL)
except OSError:
    pass
note("child", "killed" if os.WIFSIGNALED(os.waitpid(pid, 0)[1]) else "lives")
note("others", len(others))
note("others_killed", sum(bool(select.select([fd], [], [], 5)[0]) for fd in watched))
for fd in watched:
    os.close(fd)
saw()
