"""Looks for a neighbour's objects by their key, and makes a POSIX message queue."""

from attack import attempt, checked, libc, saw

attempt("segment", lambda: checked(libc.shmget(0x43424C4B, 0, 0)) and None)
attempt("queue", lambda: checked(libc.msgget(0x43424C4B, 0)) and None)
attempt("semaphores", lambda: checked(libc.semget(0x43424C4B, 0, 0)) and None)


def posix():
    name = b"/cellblock-attack"
    checked(libc.mq_open(name, 0o102, 0o600, None))
    libc.mq_unlink(name)


attempt("posix", posix)
saw()
