"""Handles page faults itself: the kernel's too, then its own alone."""

import os

from attack import attempt, saw, syscall

attempt("kernel_faults", lambda: os.close(syscall("userfaultfd", 0)))
attempt("own_faults", lambda: os.close(syscall("userfaultfd", 1)))
saw()
