"""Reads the kernel's own account of it."""

from attack import note, saw

with open("/proc/self/status") as status:
    lines = {key: value.strip() for key, value in (line.split(":", 1) for line in status)}
note("seccomp", lines["Seccomp"])
note("no_new_privs", lines["NoNewPrivs"])
held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(lines[name], 16)]
note("capabilities", ",".join(held) or "none")
note("groups", lines["Groups"].replace(" ", ",") or "none")
note("uid", "root" if "0" in lines["Uid"].split() else "nobody")
saw()
