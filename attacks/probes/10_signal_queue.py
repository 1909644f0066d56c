"""Queues 200 real-time signals that nobody takes."""

import os
import signal

from attack import attempt, checked, child, libc, saw


def flood():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
    attempt("queue", lambda: [checked(libc.sigqueue(os.getpid(), signal.SIGRTMIN, None)) for _ in range(200)])


child(flood)
saw()
