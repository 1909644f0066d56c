"""Looks in its session keyring for what a neighbour has put into his."""

from attack import attempt, saw, syscall

attempt("search", lambda: syscall("keyctl", 10, -3, b"user", b"cellblock-attack", 0) and None)
saw()
