"""Sets the machine's clock, and its own timers as fast as they go."""

import ctypes
import signal
import time

from attack import attempt, note, saw, syscall

# A tick of 1 microsecond is refused to everybody, but only after the right to set one.
adjustment = ctypes.create_string_buffer(208)
ctypes.c_uint.from_buffer(adjustment, 0).value = 0x4000  # ADJ_TICK
ctypes.c_long.from_buffer(adjustment, 88).value = 1
attempt("adjust", lambda: syscall("adjtimex", adjustment) and None)
count = []


def tick(*_):
    count.append(1)
    if len(count) == 5_000:
        # On a busy machine nothing else comes to run: each takes longer than it is to the next.
        signal.setitimer(signal.ITIMER_REAL, 0)


before = signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.00001, 0.00001)
until = time.monotonic() + 0.1
while time.monotonic() < until:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, before)
note("storm", "done" if count else "none")
saw()
