"""Forks until it is refused, 300 times at most."""

import os
import signal

from attack import attempt, saw

children = []


def bomb():
    for _ in range(300):
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        children.append(pid)


attempt("fork", bomb)
for pid in children:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
saw()
