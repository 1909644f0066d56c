"""Asks the kernel by netlink which interfaces there are."""

import socket
import struct

from attack import attempt, network_is_empty, note, saw


def links():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.settimeout(3)
        # RTM_GETLINK, a request for all.
        netlink.send(struct.pack("<IHHIIBBHiII", 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0, 0))
        names = []
        while True:
            data = netlink.recv(65536)
            while data:
                length, kind = struct.unpack_from("<IH", data)
                if kind in (2, 3):  # An error, or done.
                    return names
                at = 32
                while at + 4 <= length:
                    size, attribute = struct.unpack_from("<HH", data, at)
                    if attribute == 3:  # IFLA_IFNAME
                        names.append(data[at + 4 : at + size].rstrip(b"\0").decode())
                    at += max(4, (size + 3) & ~3)
                data = data[(length + 3) & ~3 :]


if network_is_empty():
    note("links", ",".join(sorted(attempt("route", links) or [])))
    for name, protocol in (("generic", 16), ("uevent", 15), ("audit", 9)):
        attempt(
            name,
            lambda protocol=protocol: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol).close(),
        )
    saw()
