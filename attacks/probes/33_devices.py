"""Looks for devices that lead to the machine."""

import os

from attack import note, saw

names = """
kvm kmsg fuse mem vsock vhost-vsock vhost-net net/tun sda vda nvme0n1 loop0 loop-control dm-0 ptmx
tty console port userfaultfd cuse rtc0 hwrng
""".split()
note("found", ",".join(name for name in names if os.path.exists(f"/dev/{name}")) or "none")
saw()
