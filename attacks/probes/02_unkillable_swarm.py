"""Leaves twelve processes behind that ignore SIGTERM and start anew whoever ends."""

import os
import select
import signal
import time

from attack import note, outside, saw

read, write = os.pipe()


def guard(mark):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: os.write(0, mark))
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
        pid = os.fork()
        if pid == 0:
            time.sleep(10)
            os._exit(0)
        if turn == 0:
            os.write(0, mark)
        os.waitpid(pid, 0)
    os._exit(0)


def hear(seconds, wanted):
    """The marks that come until all that are wanted have, or none does for so long."""
    found = set()
    while not found >= wanted and select.select([read], [], [], seconds)[0]:
        found.update(os.read(read, 64))
    return found


pids = {}
for mark in range(1, 7):
    pid = os.fork()
    if pid == 0:
        guard(bytes([mark]))
    pids[mark] = pid
marks = set(pids)
hear(5, marks)
for pid in pids.values():
    os.kill(pid, signal.SIGTERM)
# Whom SIGTERM ends answers nothing that comes after it. Who is just about to wait notices a signal
# only when the next one comes.
alive = set()
for _ in range(50):
    for mark in marks - alive:
        os.kill(pids[mark], signal.SIGUSR1)
    alive |= hear(0.1, marks - alive)
    if alive == marks:
        break
os.close(read)
os.close(write)
note("after_sigterm", "alive" if alive == marks else len(alive))
if outside():
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
saw()
