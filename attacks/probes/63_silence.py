"""Lets go of its channel and says nothing more."""

import os
import time

from attack import note, outside, saw

if outside():
    # Who waits for a line without a bound waits for ever.
    read, write = os.pipe()
    os.set_blocking(read, False)
    try:
        os.read(read, 1)
    except BlockingIOError:
        note("reader", "waits")
    saw()
else:
    silent = os.open("/dev/null", os.O_RDWR)
    os.dup2(silent, 3)
    note("channel", "gone")
    saw()
    time.sleep(5)
