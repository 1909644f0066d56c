"""A part of `installed.py`: a daemon of one user's own, without any privilege."""

from __future__ import annotations

import shutil
from pathlib import Path

import service
from host import ALONE, OWN, PATIENCE, Machine, must, run, until

import cellblock

HOARD = "hoard = []\nwhile True: hoard.append(b'x' * 4_000_000)"
MEMORY = 200_000_000


def check(machine: Machine) -> None:
    if shutil.which("loginctl") is None or run("loginctl").returncode != 0:
        machine.tell("systemd --user", False, "needs systemd-logind, and libpam-systemd")
        return
    if run("id", ALONE).returncode != 0:
        must("useradd", "--create-home", ALONE)
    done = run(str(service.unpack(machine.options.archive) / "install.sh"), "--user")
    machine.tell("install.sh --user", done.returncode == 0, done.stderr)
    settings = Path("/home", ALONE, ".config/cellblock")
    must("install", "--owner", ALONE, "-d", str(settings.parent), str(settings), str(settings / "profiles"))
    (settings / "profiles/small.toml").write_text(f"version = 1\n[limits]\nmemory_bytes = {MEMORY}\n")
    (settings / "cellblockd.env").write_text(
        f"CELLBLOCK_PYTHON={machine.options.python}\nCELLBLOCK_PROFILES={settings / 'profiles'}\n"
    )
    must("loginctl", "enable-linger", ALONE)
    until("the user's manager", lambda: OWN.active("basic.target"))
    OWN.systemctl("daemon-reload")
    OWN.systemctl("enable", "--now", "cellblockd.socket")
    with OWN.client() as client:
        result = client.open("first").execute("import os\nprint(6 * 7)").result()
        machine.tell("own: a cell", result.stdout == "42\n", result.outcome.end)
        for line in client.doctor():
            if line.name in ("cgroup", "memory", "user ids", "storage"):
                print(f"       own: doctor, {line.name}: {line.state}: {line.detail}", flush=True)
        held = client.open("held", "small")
        held.execute("1").result()
        end = held.execute(HOARD).result().outcome.end
        hit = isinstance(end, cellblock.LimitHit) and end.limit == "memory"
        machine.tell("own: memory", hit, end)
    service.interrupted(
        machine, "own: systemctl restart", lambda: OWN.systemctl("restart", "cellblockd"), OWN
    )
    with OWN.client() as client:
        client.open("kept").execute("x = 'from before'").result()
    took = OWN.stop()
    user = run("id", "-u", ALONE).stdout.strip()
    until("nothing left", lambda: not processes(user), bound=60.0)
    machine.tell(
        "own: systemctl stop leaves nothing", not processes(user), f"{processes(user)} after {took:.1f} s"
    )
    machine.tell("own: no unit has failed", not OWN.failed(), OWN.failed())
    OWN.systemctl("start", "cellblockd.socket")
    with OWN.client() as client:
        result = client.open("kept").execute("print(x)").result(PATIENCE)
        machine.tell("own: variables after a stop", result.stdout == "from before\n", result.outcome.end)
    OWN.stop()
    must("loginctl", "disable-linger", ALONE)


def processes(user: str) -> list[str]:
    """Of the user's, those that are not his manager's."""
    lines = run("ps", "-o", "args=", "-u", user).stdout.splitlines()
    return [line for line in lines if "cellblock" in line]
