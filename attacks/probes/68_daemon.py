"""Leaves a process behind that has left its session and its parent."""

import os
import signal
import time

from attack import note, outside, saw

read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(write, str(os.getpid()).encode())
        quiet = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(quiet, number)
        time.sleep(30)
    os._exit(0)
os.wait()
daemon = int(os.read(read, 20))
os.close(read)
os.close(write)
os.kill(daemon, 0)
note("daemon", "lives")
if outside():
    os.kill(daemon, signal.SIGKILL)
saw()
