"""Runs a set-uid program of root's, and looks whether the kernel took it for one."""

import os
import subprocess

from attack import note, outside, saw

with open("/proc/self/status") as status:
    lines = dict(line.split(":", 1) for line in status)
note("no_new_privs", lines["NoNewPrivs"].strip())
candidates = ("/usr/bin/mount", "/usr/bin/su", "/usr/bin/passwd", "/usr/bin/chsh")
programs = [path for path in candidates if os.path.exists(path) and os.stat(path).st_mode & 0o4000]
if not programs:
    note("gain", "no_program")
else:
    # Root gains nothing by being root: outside, it tries as nobody.
    becomes = {"user": 65534, "group": 65534, "extra_groups": []} if outside() and os.geteuid() == 0 else {}
    # The loader tells of itself unless it runs for somebody with more rights than who started it.
    ran = subprocess.run(
        [programs[0], "--version"],
        env={"LD_DEBUG": "statistics", "PATH": "/usr/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        **becomes,
    )
    note("gain", "no" if b"total startup time" in ran.stderr else "yes")
saw()
