"""Leaves a pipe, a socket, 300 folders in one another, 2,000 names and some that are no text."""

import os
import signal
import socket

from attack import note, outside, saw

os.mkfifo("pipe")
if outside():
    # Whoever opens what he finds waits for ever, or until somebody wakes him.
    class WokenError(Exception):
        pass

    def wake(*_):
        raise WokenError

    signal.signal(signal.SIGALRM, wake)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        os.close(os.open("pipe", os.O_RDONLY))
        note("pipe", "opened")
    except WokenError:
        note("pipe", "blocks")
else:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    top = os.getcwd()
    for _ in range(300):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(top)
    os.mkdir("many")
    for number in range(2_000):
        os.close(os.open(f"many/{number}", os.O_CREAT))
    for name in (b"\xff\xfe", b"a\nb", b"\x1b[31m", b"x" * 255):
        os.close(os.open(name, os.O_CREAT))
    note("laid", "names")
saw()
