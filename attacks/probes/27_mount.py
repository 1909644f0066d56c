"""Mounts, unmounts, and gets itself another root. In children, so that nothing of it stays."""

import os

from attack import attempt, child, saw, syscall


def mount(kind, source, target, flags=0):
    return syscall("mount", source, target, kind, flags, None) and None


def tries():
    attempt("mount", lambda: mount(b"tmpfs", b"none", b"/tmp"))
    attempt("remount", lambda: mount(None, None, b"/usr", 0x20 | 0x1000))
    attempt("umount", lambda: syscall("umount2", b"/proc/timer_list", 2) and None)
    attempt("fsopen", lambda: os.close(syscall("fsopen", b"tmpfs", 0)))
    attempt("open_tree", lambda: os.close(syscall("open_tree", -100, b"/usr", 1)))


child(tries)
child(lambda: attempt("chroot", lambda: os.chroot("/tmp")))
child(lambda: attempt("pivot_root", lambda: syscall("pivot_root", b"/tmp", b"/tmp") and None))
saw()
