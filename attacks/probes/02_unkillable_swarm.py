"""Leaves twelve processes behind that ignore SIGTERM and start anew whoever ends."""

import os
import select
import signal
import time

from attack import note, outside, saw

read, write = os.pipe()


def guard(depth):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: os.write(0, b"a"))
    os.dup2(write, 0)
    for number in range(3, 300):
        try:
            os.close(number)
        except OSError:
            pass
    quiet = os.open("/dev/null", os.O_RDWR)
    for number in (1, 2):
        os.dup2(quiet, number)
    for turn in range(200):
        pid = os.fork() if depth else 0
        if pid == 0:
            time.sleep(10)
            os._exit(0)
        if turn == 0:
            os.write(0, b"r")
        os.waitpid(pid, 0)
    os._exit(0)


def heard(count):
    """How many of so many words come; each is waited for five seconds at the most."""
    found = 0
    while found < count and select.select([read], [], [], 5)[0]:
        found += len(os.read(read, count - found))
    return found


pids = []
for _ in range(6):
    pid = os.fork()
    if pid == 0:
        guard(1)
    pids.append(pid)
heard(len(pids))
for pid in pids:
    os.kill(pid, signal.SIGTERM)
    # Whom SIGTERM ends answers nothing that comes after it.
    os.kill(pid, signal.SIGUSR1)
alive = heard(len(pids))
os.close(read)
os.close(write)
note("after_sigterm", "alive" if alive == len(pids) else alive)
if outside():
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
saw()
