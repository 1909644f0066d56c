"""Makes sockets of families that are rarely used and rarely looked at."""

import socket

from attack import network_is_empty, note, saw

FAMILIES = {
    "alg": (38, socket.SOCK_SEQPACKET),
    "bluetooth": (31, socket.SOCK_RAW),
    "can": (29, socket.SOCK_RAW),
    "tipc": (30, socket.SOCK_RDM),
    "rds": (21, socket.SOCK_SEQPACKET),
    "smc": (43, socket.SOCK_STREAM),
    "kcm": (41, socket.SOCK_SEQPACKET),
    "qipcrtr": (42, socket.SOCK_DGRAM),
    "nfc": (39, socket.SOCK_RAW),
    "phonet": (35, socket.SOCK_DGRAM),
    "x25": (9, socket.SOCK_SEQPACKET),
    "rxrpc": (33, socket.SOCK_DGRAM),
    "mctp": (45, socket.SOCK_DGRAM),
}
opened = []
if network_is_empty():
    for name, (family, kind) in FAMILIES.items():
        try:
            socket.socket(family, kind).close()
            opened.append(name)
        except OSError:
            pass
    note("families", ",".join(opened) or "none")
    saw()
