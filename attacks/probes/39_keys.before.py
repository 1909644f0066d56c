"""Puts a key into its session keyring."""

from attack import libc, syscall

syscall("add_key", b"user", b"cellblock-attack", b"told", 4, -3)


def release():
    """The keyring ends with the session; outside it is not ours to clear, the key is."""
    key = syscall("keyctl", 10, -3, b"user", b"cellblock-attack", 0)
    syscall("keyctl", 9, key, -3)
    return libc
