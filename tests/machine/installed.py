#!/usr/bin/env python3
"""cellblock from its archive, as a service of a machine with systemd and cgroups of version 2.

    installed.py --archive FILE --python PATH [--seconds N] [--without PART]...

Needs root, on a machine that is thrown away afterwards: it installs into /usr/local. Installs from the
archive (`cargo xtask dist`), starts the daemon by its socket as an ordinary user of the group, restarts,
kills and hangs it while a cell runs, runs limits into their ends, stops it, and looks at what is left. Prints
a line for each; exits with 1 when one of them is not as it must be. `clients/python/src` must be on
PYTHONPATH. `--without` leaves out one of: restart, kill, watchdog, anchor, limits (which needs
controllers of cgroup v2 and loop devices), stop. A cell that must outlive the daemon takes `--seconds`.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace, RawTextHelpFormatter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import limits
from unit import connect

import cellblock

SOCKET = Path("/run/cellblock/cellblockd.sock")
UNITS = ("cellblockd.socket", "cellblockd.service", "cellblock-workers.service")
GROUP = Path("/sys/fs/cgroup/system.slice/cellblock-workers.service")
STATE = Path("/var/lib/cellblock")
SETTINGS = Path("/etc/cellblock/cellblockd.env")
AUDIT = Path("/var/log/cellblock/audit.log")
OVERRIDE = Path("/run/systemd/system/cellblockd.service.d/test.conf")
MEMBER, STRANGER = "ann", "bob"
PATIENCE = 300.0
PARTS = ("restart", "kill", "watchdog", "anchor", "limits", "stop")
LIMITS = {"small": limits.PROFILES["small"], "short": limits.PROFILES["short"]}


class Machine:
    """What is checked, and how much of it was wrong."""

    def __init__(self, options: Namespace) -> None:
        self.options = options
        self.wrong = 0

    def tell(self, name: str, passed: bool, detail: object = "") -> None:
        self.wrong += not passed
        print(f"{'ok    ' if passed else 'FAILED'} {name}: {str(detail).strip()}", flush=True)

    # Each part stands alone, but for the installation.

    def install(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="cellblock-", dir="/root"))
        must("tar", "--directory", str(folder), "-xzf", str(self.options.archive))
        (unpacked,) = folder.iterdir()
        done = run(str(unpacked / "install.sh"))
        self.tell("install.sh", done.returncode == 0, last(done.stdout + done.stderr))
        for name, groups in ((MEMBER, ["--groups", "cellblock"]), (STRANGER, [])):
            if run("id", name).returncode != 0:
                must("useradd", "--no-create-home", *groups, name)
        # Some machines to throw away have no modprobe@.service, and a container may load nothing.
        run("modprobe", "--all", "loop", "overlay")
        for name, text in LIMITS.items():
            Path(f"/etc/cellblock/profiles/{name}.toml").write_text(text)
        settings = f"CELLBLOCK_PYTHON={self.options.python}\nCELLBLOCK_AUDIT_LOG={AUDIT}\n"
        SETTINGS.write_text(SETTINGS.read_text() + settings)
        checked = run("systemd-analyze", "verify", *UNITS)
        said = checked.stdout + checked.stderr
        self.tell("systemd-analyze verify", checked.returncode == 0 and not said.strip(), said)
        for unit in UNITS[1:]:
            score = run("systemd-analyze", "security", "--no-pager", unit)
            self.tell(f"systemd-analyze security {unit}", score.returncode == 0, last(score.stdout))

    def activate(self) -> None:
        must("systemctl", "start", "cellblockd.socket")
        self.tell("nothing runs before a client comes", not active("cellblockd.service"))
        with as_user(STRANGER):
            try:
                cellblock.Client.connect(SOCKET).close()
                refused = "it can connect"
            except cellblock.ConnectError as error:
                refused = f"{error}"
        self.tell("a stranger cannot connect", "permission" in refused, refused)
        began = time.monotonic()
        with member() as client:
            result = client.open("first").execute("print(6 * 7)").result()
            took = time.monotonic() - began
            self.tell(
                "an ordinary user's cell", result.stdout == "42\n", f"{result.outcome.end}, {took:.1f} s"
            )
            held = client.open("first").execute("print(open('/proc/self/status').read())").result().stdout
            seccomp = next((line for line in held.splitlines() if line.startswith("Seccomp:")), "")
            # A container may have given one to all of us.
            ours = status(os.getpid(), "Seccomp")
            self.tell("no seccomp filter in a worker", seccomp.split()[-1:] == [ours], seccomp)
            filters = [unit for unit in UNITS[1:] if status(pid(unit), "Seccomp") != ours]
            self.tell("no seccomp filter in the units", not filters, filters)
            files = client.open("first").files
            files.write("in.txt", "from outside")
            copied = (
                client.open("first").execute("open('out.txt', 'w').write(open('in.txt').read())").result()
            )
            self.tell("files in and out", files.read("out.txt") == b"from outside", copied.outcome.end)
            client.open("first").delete()
            self.tell("a notebook is deleted", not list(STATE.glob("**/first")), list(STATE.glob("**/first")))
        audit = readable(AUDIT)
        self.tell("the audit log", '"delete"' in audit, f"{len(audit.splitlines())} lines")
        told = must("systemctl", "show", "-PStatusText", "cellblockd", "cellblock-workers").stdout.split("\n")
        self.tell("what systemd was told", len([line for line in told if line]) == 2, told)

    def restart(self) -> None:
        def restart() -> None:
            must("systemctl", "restart", "cellblockd")

        self.interrupted("systemctl restart", restart)

    def kill(self) -> None:
        self.interrupted("SIGKILL", lambda: os.kill(pid("cellblockd"), 9))

    def watchdog(self) -> None:
        OVERRIDE.parent.mkdir(parents=True, exist_ok=True)
        OVERRIDE.write_text("[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n")
        must("systemctl", "daemon-reload")
        must("systemctl", "restart", "cellblockd")
        self.interrupted("a daemon that hangs", lambda: os.kill(pid("cellblockd"), 19))
        OVERRIDE.unlink()
        must("systemctl", "daemon-reload")
        must("systemctl", "restart", "cellblockd")

    def interrupted(self, name: str, interrupt: Callable[[], object]) -> None:
        """The daemon is replaced while a cell runs: its Outcome and all of its output arrive."""
        lines = int(self.options.seconds * 10)
        code = f"import time\nfor n in range({lines}):\n    print(n, flush=True)\n    time.sleep(0.1)\nn + x"
        with member() as client:
            notebook = client.open("long")
            notebook.execute("x = 1").result()
            daemon, anchor, worker = pid("cellblockd"), pid("cellblock-workers"), notebook.status().worker_pid
            execution = notebook.execute(code)
            execution.wait_accepted(PATIENCE)
            first = next(execution)
            began = time.monotonic()
            interrupt()
            until(f"another daemon after {name}", lambda: pid("cellblockd") not in (0, daemon))
            until(f"ready after {name}", lambda: active("cellblockd.service"))
            took = time.monotonic() - began
            result = execution.result(PATIENCE)
            text = cellblock.Completed([first, *result.outputs], result.outcome).stdout
            whole = text == "".join(f"{n}\n" for n in range(lines))
            self.tell(
                f"{name}: the Outcome",
                result.outcome.ok,
                f"{result.outcome.end}; another daemon after {took:.1f} s",
            )
            self.tell(f"{name}: all output, once", whole, f"{len(text.split())} of {lines} lines")
            after = notebook.execute("print(x)").result()
            same = (pid("cellblock-workers"), notebook.status().worker_pid) == (anchor, worker)
            self.tell(
                f"{name}: the same anchor and worker",
                same and after.stdout == "1\n",
                f"anchor {anchor}, worker {worker}",
            )

    def anchor(self) -> None:
        with member() as client:
            notebook = client.open("kept")
            notebook.execute("x = [1, 2, 3]").result()
            notebook.checkpoint()
            before = pid("cellblock-workers")
            os.kill(before, 9)
            until("another anchor", lambda: pid("cellblock-workers") not in (0, before))
            result = notebook.execute("print(x)").result(PATIENCE)
            self.tell(
                "a killed anchor", result.stdout == "[1, 2, 3]\n", f"{result.outcome.end} {result.stdout}"
            )

    def limits(self) -> None:
        # As root: what the host can hold is told to operators alone.
        with connect(SOCKET) as client:
            for line in client.doctor():
                if line.name in ("overlay", "storage"):
                    self.tell(f"doctor, {line.name}", line.state == "enforced", line.detail)
            began = kills()
            self.wrong += limits.check(client, self)
            self.tell(
                "memory.events of the unit agrees", kills() > began, f"oom_kill {began}, then {kills()}"
            )

    def groups(self, notebook: str) -> list[Path]:
        """Those of a notebook's sandbox."""
        return list(GROUP.glob(f"{notebook}-*"))

    def stop(self) -> None:
        with member() as client:
            notebook = client.open("kept2")
            notebook.execute("x = 'from before'").result()
            client.open("idle").execute("1").result()
        began = time.monotonic()
        must("systemctl", "stop", "cellblockd.socket", "cellblockd.service")
        until("the workers' end", lambda: not active("cellblock-workers.service"))
        took = time.monotonic() - began
        until("nothing left", lambda: not left(), bound=60.0)
        self.tell("systemctl stop leaves nothing", not left(), f"{left()} after {took:.1f} s")
        failed = [unit for unit in UNITS if run("systemctl", "is-failed", "--quiet", unit).returncode == 0]
        self.tell("no unit has failed", not failed, failed)
        must("systemctl", "start", "cellblockd.socket")
        with member() as client:
            result = client.open("kept2").execute("print(x)").result(PATIENCE)
            self.tell("variables after a stop", result.stdout == "from before\n", result.outcome.end)
        must("systemctl", "stop", "cellblockd.socket", "cellblockd.service")


def main() -> int:
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--without", choices=PARTS, action="append", default=[])
    machine = Machine(parser.parse_args())
    try:
        machine.install()
        machine.activate()
        for part in PARTS:
            if part not in machine.options.without:
                getattr(machine, part)()
    except Exception as error:
        machine.tell("it went on to the end", False, repr(error))
    if machine.wrong:
        journal = ["journalctl", "--no-pager", "--output=short-precise", "--lines=200"]
        print(run(*journal, *(f"--unit={unit}" for unit in UNITS)).stdout, file=sys.stderr)
    return min(1, machine.wrong)


@contextmanager
def member() -> Iterator[cellblock.Client]:
    """A connection of an ordinary user who is in the group."""
    with as_user(MEMBER), connect(SOCKET) as client:
        yield client


@contextmanager
def as_user(name: str) -> Iterator[None]:
    user = pwd.getpwnam(name)
    groups = os.getgroups()
    os.setgroups([group.gr_gid for group in grp.getgrall() if name in group.gr_mem])
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """As root, whoever we are just now."""
    return subprocess.run(command, check=False, capture_output=True, text=True, user=0, group=0)


def must(*command: str) -> subprocess.CompletedProcess[str]:
    done = run(*command)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done


def active(unit: str) -> bool:
    return run("systemctl", "is-active", "--quiet", unit).returncode == 0


def pid(unit: str) -> int:
    return int(must("systemctl", "show", "-PMainPID", unit).stdout)


def status(process: int, name: str) -> str:
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"^{name}:\s*(\S+)$", text, re.MULTILINE)
    return found[1] if found else ""


def kills() -> int:
    """Of all groups below the unit, those that have gone included."""
    found = re.search(r"^oom_kill (\d+)$", (GROUP / "memory.events").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def left() -> list[str]:
    """Processes, groups, mounts, loop devices, sockets and folders of what was stopped."""
    found = [
        f"process {path.parent.name} {path.read_text().strip()}"
        for path in Path("/proc").glob("[0-9]*/comm")
        if readable(path).startswith(("cellblock", "python3 -c import cellb"))
    ]
    found += [str(path) for path in (GROUP, Path("/run/cellblock-workers"), SOCKET) if path.exists()]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob("cellblock-*")]
    found += sorted(mounts() - MOUNTED)
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        if str(STATE) in readable(backing):
            found.append(readable(backing))
    return found


def mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line for line in lines if "cellblock" in line}


# The state may lie on a disk of its own.
MOUNTED = mounts()


def readable(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def until(what: str, look: Callable[[], bool], bound: float = PATIENCE) -> None:
    deadline = time.monotonic() + bound
    while not look():
        if time.monotonic() > deadline:
            print(f"waited {bound:.0f} s in vain: {what}", flush=True)
            return
        time.sleep(0.05)


def last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


if __name__ == "__main__":
    sys.exit(main())
