"""Types into the terminal it was started from."""

import fcntl
import os
import pty
import termios

from attack import attempt, child, note, outside, saw


def tries():
    attempt("tty", lambda: os.close(os.open("/dev/tty", os.O_RDWR)))
    attempt("type", lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x") and None)


if not outside():
    tries()
else:
    # The control's terminal is one of its own.
    leader, follower = pty.openpty()

    def with_terminal():
        os.setsid()
        fcntl.ioctl(follower, termios.TIOCSCTTY, 0)
        os.dup2(follower, 0)
        tries()

    child(with_terminal)
note("terminal", os.isatty(0))
saw()
