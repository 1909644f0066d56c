"""Computes in C with the interpreter's lock held and SIGINT blocked, for many seconds."""

import os
import re
import signal
import threading

from attack import note, outside, saw

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
signal.pthread_kill(threading.get_ident(), signal.SIGINT)
# Each letter doubles the time.
re.match("(a+)+$", "a" * (18 if outside() else 30) + "b")
note("sigint", "waits" if signal.SIGINT in signal.sigpending() else "came")
note("loop", "done")
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.getpid()
saw()
