"""Leaves objects of System V ipc behind, for anybody."""

from attack import checked, libc

segment = checked(libc.shmget(0x43424C4B, 4096, 0o1666))
queue = checked(libc.msgget(0x43424C4B, 0o1666))
semaphores = checked(libc.semget(0x43424C4B, 1, 0o1666))


def release():
    """Removes them."""
    libc.shmctl(segment, 0, None)
    libc.msgctl(queue, 0, None)
    libc.semctl(semaphores, 0, 0)
