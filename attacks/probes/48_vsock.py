"""Makes a socket to the hypervisor. It is never connected: that would reach whoever listens there."""

import socket

from attack import attempt, network_is_empty, saw

if network_is_empty():
    attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM).close())
    saw()
