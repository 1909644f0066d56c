"""Signals to pid 1 of whoever runs this; outside, that is a shell of its own."""

import os
import signal

from attack import attempt, saw

attempt("ask", lambda: os.kill(1, 0))
for name in ("SIGTERM", "SIGKILL", "SIGSTOP"):
    attempt(name.lower(), lambda name=name: os.kill(1, getattr(signal, name)))
saw()
