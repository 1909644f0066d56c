"""A part of `installed.py`: notebooks on a disk with project quotas, under the units as they are."""

from __future__ import annotations

from pathlib import Path

from host import SOCKET, STATE, SYSTEM, Machine, as_root, left, must
from unit import connect

import cellblock

IMAGE = Path("/root/notebooks.img")
BYTES = 8 << 20
PROFILE = f"version = 1\n[limits]\nworkspace_bytes = {BYTES}\n"
FILL = """import errno
try:
    with open('big', 'wb', buffering=0) as file:
        for _ in range(16): file.write(bytes(1 << 20))
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def check(machine: Machine) -> None:
    SYSTEM.stop()
    must("truncate", "--size=3G", str(IMAGE))
    must("mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", str(IMAGE))
    must("modprobe", "--all", "quota_v2", "quota_tree")
    STATE.mkdir(mode=0o700, exist_ok=True)
    must("mount", "-o", "loop,prjquota", str(IMAGE), str(STATE))
    Path("/etc/cellblock/profiles/tight.toml").write_text(PROFILE)
    must("systemctl", "start", "cellblockd.socket")
    try:
        with connect(SOCKET) as client:
            (line,) = [line for line in client.doctor() if line.name == "storage"]
            held = "held by project quota" in line.detail
            machine.tell("quota: doctor", line.state == "enforced" and held, line.detail)
        with SYSTEM.client() as client:
            notebook = client.open("full", "tight")
            result = notebook.execute(FILL).result()
            machine.tell(
                "quota: a workspace that is full",
                result.stdout == "EDQUOT\n",
                f"{result.outcome.end} {result.stdout}",
            )
            with as_root():
                found = [path.name for path in STATE.glob("**/notebooks/full/*")]
            folder = "workspace" in found and "workspace.img" not in found
            machine.tell("quota: a folder, no image", folder, found)
            try:
                notebook.files.write("more", bytes(BYTES))
                refused = "nothing"
            except cellblock.RequestRefused as error:
                refused = str(error)
            machine.tell("quota: files from outside, too", refused != "nothing", refused)
            again = notebook.execute("import os\nos.unlink('big')\nprint(open('s', 'w').write('s'))").result()
            machine.tell("quota: room again", again.stdout == "1\n", again.outcome.end)
            notebook.delete()
    finally:
        SYSTEM.stop()
        must("umount", str(STATE))
    machine.tell("quota: nothing is left", not left(), left())
    must("systemctl", "start", "cellblockd.socket")
