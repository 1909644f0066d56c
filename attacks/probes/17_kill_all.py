"""SIGKILL to everybody that can be seen."""

import os
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
try:
    os.kill(-1, signal.SIGKILL)
except OSError:
    pass
note("child", "killed" if os.WIFSIGNALED(os.waitpid(pid, 0)[1]) else "lives")
time.sleep(0.05)


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


note("others_killed", sum(not lives(pid) for pid in others))
saw()
