"""Leaves twelve processes behind that ignore SIGTERM and start anew whoever ends."""

import os
import signal
import time

from attack import note, outside, saw


def guard(depth):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in range(3, 300):
        try:
            os.close(number)
        except OSError:
            pass
    quiet = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(quiet, number)
    for _ in range(200):
        pid = os.fork() if depth else 0
        if pid == 0:
            time.sleep(10)
            os._exit(0)
        os.waitpid(pid, 0)
    os._exit(0)


pids = []
for _ in range(6):
    pid = os.fork()
    if pid == 0:
        guard(1)
    pids.append(pid)
time.sleep(0.2)
for pid in pids:
    os.kill(pid, signal.SIGTERM)
time.sleep(0.1)
alive = sum(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in pids)
note("after_sigterm", "alive" if alive == len(pids) else alive)
if outside():
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
saw()
