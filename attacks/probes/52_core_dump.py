"""Crashes, and looks whether the kernel dumped its core."""

import os
import resource
import signal

from attack import note, saw

pid = os.fork()
if pid == 0:
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    # What was touched since the start is all that a core would hold.
    os.kill(os.getpid(), signal.SIGSEGV)
status = os.waitpid(pid, 0)[1]
note("signal", os.WTERMSIG(status))
note("core", "dumped" if os.WCOREDUMP(status) else "none")
for name in os.listdir("."):
    if name.startswith("core"):
        os.unlink(name)
saw()
