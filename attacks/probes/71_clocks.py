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
# end: another has to see to that. So it tells of a single tick, and then begins.
told, tells = os.pipe()
child = os.fork()
if child == 0:
    try:
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        signal.sigwait({signal.SIGALRM})
        os.write(tells, b"t")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, 0.000001, 0.000001)
        while True:
            pass
    finally:
        os._exit(1)
os.close(tells)
ticked = os.read(told, 1)
# What is shown is that nobody else notices; the storm has no end that could be waited for.
time.sleep(0.1)
os.kill(child, signal.SIGKILL)
_, status = os.waitpid(child, 0)
note("storm", "done" if ticked and os.WTERMSIG(status) == signal.SIGKILL else "none")
saw()
