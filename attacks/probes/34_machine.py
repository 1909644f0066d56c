"""Asks for what only root of the machine may, in a form that nothing can come of."""

from attack import attempt, saw, syscall

attempt("init_module", lambda: syscall("init_module", None, 0, b"") and None)
attempt("kexec", lambda: syscall("kexec_load", 0, 1 << 20, None, 0) and None)
# A wrong magic number is looked at after the right to reboot.
attempt("reboot", lambda: syscall("reboot", 1, 2, 3, None) and None)
attempt("acct", lambda: syscall("acct", b"/nowhere/at/all") and None)
attempt("swapon", lambda: syscall("swapon", b"/nowhere/at/all", 0) and None)
saw()
