"""Sets the machine's clock, and the timer of a process as fast as it goes."""

import ctypes
import os
import signal
import time

from attack import attempt, note, saw, syscall

# A tick of 1 microsecond is refused to everybody, but only after the right to set one.
adjustment = ctypes.create_string_buffer(208)
ctypes.c_uint.from_buffer(adjustment, 0).value = 0x4000  # ADJ_TICK
ctypes.c_long.from_buffer(adjustment, 88).value = 1
attempt("adjust", lambda: syscall("adjtimex", adjustment) and None)

# Who gets the next signal before it has left the last one comes to nothing else, not even to its own
# end: another has to see to that.
told, tells = os.pipe()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGALRM, lambda *_: None)
    os.write(tells, b"b")
    signal.setitimer(signal.ITIMER_REAL, 0.000001, 0.000001)
    while True:
        pass
os.close(tells)
begun = os.read(told, 1)
time.sleep(0.1)
os.kill(child, signal.SIGKILL)
_, status = os.waitpid(child, 0)
note("storm", "done" if begun and os.WTERMSIG(status) == signal.SIGKILL else "none")
saw()
