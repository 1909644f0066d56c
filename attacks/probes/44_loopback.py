"""Connects to what listens on the host's own loopback, and listens there."""

import socket

from attack import GIVEN, attempt, network_is_empty, saw


def connect():
    with socket.socket() as peer:
        peer.settimeout(3)
        peer.connect(("127.0.0.1", GIVEN["port"]))


def listen():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


if network_is_empty():
    attempt("connect", connect)
    attempt("bind", listen)
    saw()
