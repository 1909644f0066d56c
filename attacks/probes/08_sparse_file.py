"""A file of 1 TiB that takes no room yet."""

import os
import signal

from attack import attempt, saw

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
number = os.open("sparse", os.O_CREAT | os.O_RDWR)
attempt("truncate", lambda: os.ftruncate(number, 1 << 40))
os.close(number)
os.unlink("sparse")
saw()
