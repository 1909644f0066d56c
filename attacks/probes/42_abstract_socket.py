"""Connects to an abstract Unix socket of the host's."""

import socket

from attack import GIVEN, attempt, saw


def connect():
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect("\0" + GIVEN["abstract"])


attempt("connect", connect)
saw()
