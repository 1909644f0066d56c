"""Makes a user namespace, in which it would have every capability."""

from attack import attempt, child, saw, syscall

child(lambda: attempt("unshare", lambda: syscall("unshare", 0x10000000) and None))
saw()
