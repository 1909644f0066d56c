"""Sends to the metadata address, a name server and nobody's address; outside, to the test's listeners."""

import socket

from attack import GIVEN, attempt, network_is_empty, outside, saw


def send(kind, address):
    with socket.socket(socket.AF_INET, kind) as peer:
        peer.settimeout(3)
        peer.connect(address)
        peer.send(b"cellblock attack")


if network_is_empty():
    home = outside()
    metadata, names, nobody = ("127.0.0.1",) * 3 if home else ("169.254.169.254", "192.0.2.53", "192.0.2.1")
    attempt("metadata", lambda: send(socket.SOCK_STREAM, (metadata, GIVEN["port"] if home else 80)))
    attempt("tcp", lambda: send(socket.SOCK_STREAM, (nobody, GIVEN["port"] if home else 443)))
    attempt("udp", lambda: send(socket.SOCK_DGRAM, (names, GIVEN["udp_port"] if home else 53)))
    saw()
