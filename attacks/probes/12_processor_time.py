"""Four processes spin until they have used a second more than one Execution may."""

import os
import signal
import time

from attack import GIVEN, note, saw

wanted = GIVEN["cpu_ms"] / 1000 + 1
parent = os.getpid()
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        while time.process_time() < wanted and os.getppid() == parent:
            pass
        os._exit(0)
    children.append(pid)
ticks = os.sysconf("SC_CLK_TCK")


def used(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / ticks


begun = used(parent)
while used(parent) - begun + sum(map(used, children)) < wanted:
    for _ in range(100_000):
        pass
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
note("spun", "done")
saw()
