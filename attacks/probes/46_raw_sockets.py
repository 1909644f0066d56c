"""Makes sockets that see or forge other people's packets; nothing is sent."""

import socket

from attack import attempt, network_is_empty, saw

if network_is_empty():
    attempt("packet", lambda: socket.socket(17, socket.SOCK_RAW, 0).close())
    attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close())
    attempt("ping", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close())
    attempt("xdp", lambda: socket.socket(44, socket.SOCK_RAW, 0).close())
    saw()
