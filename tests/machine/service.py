"""Parts of `installed.py`: the system's service."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import limits
from host import (
    GROUP,
    MEMBER,
    PATIENCE,
    SETTINGS,
    SOCKET,
    STATE,
    STRANGER,
    SYSTEM,
    UNITS,
    Machine,
    Service,
    as_root,
    as_user,
    begin,
    counted,
    counting,
    field,
    figure,
    finish,
    journal,
    last,
    left,
    must,
    readable,
    run,
    until,
)
from unit import connect

import cellblock

AUDIT = Path("/var/log/cellblock/audit.log")
OVERRIDE = Path("/run/systemd/system/cellblockd.service.d/test.conf")
LIMITS = {"small": limits.PROFILES["small"], "short": limits.PROFILES["short"]}


def unpack(archive: Path) -> Path:
    """The folder with install.sh."""
    folder = Path(tempfile.mkdtemp(prefix="cellblock-", dir="/root"))
    must("tar", "--directory", str(folder), "-xzf", str(archive))
    (unpacked,) = folder.iterdir()
    return unpacked


def install(machine: Machine) -> None:
    done = run(str(unpack(machine.options.archive) / "install.sh"))
    machine.tell("install.sh", done.returncode == 0, last(done.stdout + done.stderr))
    for name, groups in ((MEMBER, ["--groups", "cellblock"]), (STRANGER, [])):
        if run("id", name).returncode != 0:
            must("useradd", "--no-create-home", *groups, name)
    # Some machines to throw away have no modprobe@.service, and a container may load nothing.
    run("modprobe", "--all", "loop", "overlay")
    for name, text in LIMITS.items():
        Path(f"/etc/cellblock/profiles/{name}.toml").write_text(text)
    settings = f"CELLBLOCK_PYTHON={machine.options.python}\nCELLBLOCK_AUDIT_LOG={AUDIT}\n"
    SETTINGS.write_text(SETTINGS.read_text() + settings)
    checked = run("systemd-analyze", "verify", *UNITS)
    said = checked.stdout + checked.stderr
    machine.tell("systemd-analyze verify", checked.returncode == 0 and not said.strip(), said)
    for unit in UNITS[1:]:
        score = run("systemd-analyze", "security", "--no-pager", unit)
        machine.tell(f"systemd-analyze security {unit}", score.returncode == 0, last(score.stdout))
    must("systemctl", "start", "cellblockd.socket")


def activate(machine: Machine) -> None:
    machine.tell("nothing runs before a client comes", not SYSTEM.active("cellblockd.service"))
    with as_user(STRANGER):
        try:
            cellblock.Client.connect(SOCKET).close()
            refused = "it can connect"
        except cellblock.ConnectError as error:
            refused = f"{error}"
    machine.tell("a stranger cannot connect", "permission" in refused, refused)
    began = time.monotonic()
    with SYSTEM.client() as client:
        result = client.open("first").execute("print(6 * 7)").result()
        took = time.monotonic() - began
        machine.tell(
            "an ordinary user's cell", result.stdout == "42\n", f"{result.outcome.end}, {took:.1f} s"
        )
        held = client.open("first").execute("print(open('/proc/self/status').read())").result().stdout
        seccomp = next((line for line in held.splitlines() if line.startswith("Seccomp:")), "")
        # A container may have given one to all of us.
        ours = field(os.getpid(), "Seccomp")
        machine.tell("no seccomp filter in a worker", seccomp.split()[-1:] == [ours], seccomp)
        filters = [unit for unit in UNITS[1:] if field(SYSTEM.pid(unit), "Seccomp") != ours]
        machine.tell("no seccomp filter in the units", not filters, filters)
        files = client.open("first").files
        files.write("in.txt", "from outside")
        copied = client.open("first").execute("open('out.txt', 'w').write(open('in.txt').read())").result()
        machine.tell("files in and out", files.read("out.txt") == b"from outside", copied.outcome.end)
        with as_root():
            there = list(STATE.glob("**/notebooks/first"))
        client.open("first").delete()
    gone = not list(STATE.glob("**/first*"))
    machine.tell("a notebook is deleted", bool(there) and gone, there)
    audit = readable(AUDIT)
    machine.tell("the audit log", '"delete"' in audit, f"{len(audit.splitlines())} lines")
    told = SYSTEM.systemctl("show", "-PStatusText", "cellblockd", "cellblock-workers").split("\n")
    machine.tell("what systemd was told", len([line for line in told if line]) == 2, told)


def journal_fields(machine: Machine) -> None:
    secret = "not-for-the-log"
    with SYSTEM.client() as client:
        notebook = client.open("logged")
        execution = notebook.execute(f"print('{secret}')")
        execution.result()
        notebook.restart()
        notebook.execute("1").result()
        # A line of the daemon that names a notebook and an Execution.
        died = notebook.execute("import os\nos._exit(3)")
        died.result()
    lines = journal("CELLBLOCK_NOTEBOOK=logged")
    units = {line.get("_SYSTEMD_UNIT") for line in lines}
    tenants = {line.get("CELLBLOCK_TENANT") for line in lines}
    said = [line["MESSAGE"] for line in lines]
    machine.tell("journalctl CELLBLOCK_NOTEBOOK=", units == {"cellblockd.service"}, f"{len(lines)}: {said}")
    machine.tell("the field of the tenant", len(tenants) == 1 and None not in tenants, tenants)
    of_cell = journal(f"CELLBLOCK_EXECUTION={died.id}")
    machine.tell("journalctl CELLBLOCK_EXECUTION=", bool(of_cell), [line["MESSAGE"] for line in of_cell])
    whole = must("journalctl", "--no-pager", "--output=export").stdout
    machine.tell("no code and no output in it", secret not in whole)


def restart(machine: Machine) -> None:
    interrupted(machine, "systemctl restart", lambda: SYSTEM.systemctl("restart", "cellblockd"))
    handed = [line["MESSAGE"] for line in journal("--unit=cellblockd", "CELLBLOCK_REASON=SIGHUP")]
    machine.tell("it was a hand-over", bool(handed), handed[-1:])


def kill(machine: Machine) -> None:
    interrupted(machine, "SIGKILL", lambda: os.kill(SYSTEM.pid("cellblockd"), signal.SIGKILL))


def watchdog(machine: Machine) -> None:
    with override("WatchdogSec=2s\nTimeoutAbortSec=1s"):
        interrupted(
            machine,
            "a daemon that hangs",
            lambda: SYSTEM.systemctl("kill", "--kill-whom=main", "--signal=STOP", "cellblockd"),
        )
    seen = [line["MESSAGE"] for line in journal("UNIT=cellblockd.service", "--grep=Watchdog timeout")]
    machine.tell("it was the watchdog", bool(seen), seen[-1:])


def interrupted(
    machine: Machine, name: str, interrupt: Callable[[], object], service: Service = SYSTEM
) -> None:
    """The daemon is replaced while a cell runs: its Outcome and all of its output arrive."""
    lines = int(machine.options.seconds * 10)
    with service.client() as client:
        notebook = client.open("long")
        notebook.execute("x = 1").result()
        daemon, anchor, worker = ids(service, notebook)
        execution, first = begin(notebook, counting(lines))
        began = time.monotonic()
        interrupt()
        until(f"another daemon after {name}", lambda: service.pid("cellblockd") not in (0, daemon))
        until(f"ready after {name}", lambda: service.active("cellblockd.service"))
        took = time.monotonic() - began
        result = finish(execution, first)
        machine.tell(
            f"{name}: the Outcome",
            result.outcome.ok,
            f"{result.outcome.end}; another daemon after {took:.1f} s",
        )
        whole = result.stdout == counted(lines)
        machine.tell(f"{name}: all output, once", whole, f"{len(result.stdout.split())} of {lines} lines")
        after = notebook.execute("print(x)").result()
        same = ids(service, notebook)[1:] == (anchor, worker)
        machine.tell(
            f"{name}: the same anchor and worker",
            same and after.stdout == "1\n",
            f"anchor {anchor}, worker {worker}",
        )


def ids(service: Service, notebook: cellblock.Notebook) -> tuple[int, int, int | None]:
    """Daemon, anchor, worker."""
    return service.pid("cellblockd"), service.pid("cellblock-workers"), notebook.status().worker_pid


def anchor(machine: Machine) -> None:
    with SYSTEM.client() as client:
        notebook = client.open("kept")
        notebook.execute("x = [1, 2, 3]").result()
        notebook.checkpoint()
        before = SYSTEM.pid("cellblock-workers")
        os.kill(before, signal.SIGKILL)
        until("another anchor", lambda: SYSTEM.pid("cellblock-workers") not in (0, before))
        result = notebook.execute("print(x)").result(PATIENCE)
        machine.tell(
            "a killed anchor", result.stdout == "[1, 2, 3]\n", f"{result.outcome.end} {result.stdout}"
        )


def limits_hold(machine: Machine) -> None:
    # As root: what the host can hold is told to operators alone.
    with connect(SOCKET) as client:
        for line in client.doctor():
            if line.name in ("overlay", "storage"):
                machine.tell(f"doctor, {line.name}", line.state == "enforced", line.detail)
        began = kills()
        machine.wrong += limits.check(client, machine)
        machine.tell("memory.events of the unit agrees", kills() > began, f"oom_kill {began}, then {kills()}")


def kills() -> int:
    """Of all groups below the unit, those that have gone included."""
    return figure(GROUP / "memory.events", "oom_kill")


def drain(machine: Machine) -> None:
    lines = int(machine.options.seconds * 10)
    with SYSTEM.client() as client:
        notebook, other = client.open("drained"), client.open("other")
        notebook.execute("x = 1").result()
        other.execute("1").result()
        execution, first = begin(notebook, counting(lines))
        command = ["cellctl", "drain", "--seconds", str(int(PATIENCE))]
        draining = subprocess.Popen(command, user=0, group=0, stdout=subprocess.PIPE, text=True)

        def refused() -> bool:
            try:
                other.execute("1", reconnect_seconds=0).result(PATIENCE)
            except cellblock.ShuttingDown:
                return True
            return False

        machine.tell("cellctl drain: new cells are refused", until("the refusal", refused))
        result = finish(execution, first)
        whole = result.outcome.ok and result.stdout == counted(lines)
        machine.tell("cellctl drain: what runs comes to its end", whole, result.outcome.end)
        said, _ = draining.communicate(timeout=PATIENCE)
        machine.tell("cellctl drain: its exit code", draining.returncode == 0, said)
    until("the daemon's end", lambda: not SYSTEM.active("cellblockd.service"))
    code = SYSTEM.systemctl("show", "-PExecMainStatus", "cellblockd").strip()
    machine.tell("the daemon's exit code", (code, SYSTEM.failed()) == ("0", []), code)
    with override("Environment=CELLBLOCKD_OPTIONS=--drain-seconds=1"):
        # It outlives its time, and the next daemon has it.
        interrupted(machine, "SIGTERM", lambda: SYSTEM.systemctl("kill", "--kill-whom=main", "cellblockd"))
    codes = [line["MESSAGE"] for line in journal("UNIT=cellblockd.service", "--grep=status=75")]
    machine.tell("SIGTERM: the daemon's exit code", bool(codes), codes[-1:])


@contextmanager
def override(text: str) -> Iterator[None]:
    """The daemon's unit with a further line, for a while."""
    OVERRIDE.parent.mkdir(parents=True, exist_ok=True)
    OVERRIDE.write_text(f"[Service]\n{text}\n")
    must("systemctl", "daemon-reload")
    must("systemctl", "restart", "cellblockd")
    try:
        yield
    finally:
        OVERRIDE.unlink()
        must("systemctl", "daemon-reload")
        must("systemctl", "restart", "cellblockd")


def stop(machine: Machine) -> None:
    with SYSTEM.client() as client:
        notebook = client.open("kept2")
        notebook.execute("x = 'from before'").result()
        client.open("idle").execute("1").result()
        execution, _ = begin(notebook, counting(100_000))
        took = SYSTEM.stop()
    until("nothing left", lambda: not left(), bound=60.0)
    machine.tell("systemctl stop leaves nothing", not left(), f"{left()} after {took:.1f} s")
    machine.tell("no unit has failed", not SYSTEM.failed(), SYSTEM.failed())
    must("systemctl", "start", "cellblockd.socket")
    with SYSTEM.client() as client:
        notebook = client.open("kept2")
        # Nobody was there to be told how it ended.
        end = notebook.attach(execution.id).result(PATIENCE).outcome.end
        lost = isinstance(end, cellblock.WorkerDied) and end.cause == "shim_lost"
        machine.tell("the cell that ran has an Outcome", lost, end)
        result = notebook.execute("print(x)").result(PATIENCE)
        machine.tell("variables after a stop", result.stdout == "from before\n", result.outcome.end)


def upgrade(machine: Machine) -> None:
    with SYSTEM.client() as client:
        live = client.open("live")
        live.execute("x = 'older'").result()
        worker = live.status().worker_pid
    newer = unpack(machine.options.next)
    settings = SETTINGS.read_text()

    def install_next() -> None:
        done = run(str(newer / "install.sh"))
        machine.tell("install.sh over an older one", done.returncode == 0, last(done.stdout + done.stderr))
        SYSTEM.systemctl("restart", "cellblockd")

    lines = int(machine.options.seconds * 10)
    with SYSTEM.client() as client:
        live, notebook = client.open("live"), client.open("long")
        notebook.execute("x = 1").result()
        old = notebook.status().worker_pid
        execution, first = begin(notebook, counting(lines))
        install_next()
        result = finish(execution, first)
        whole = result.outcome.ok and result.stdout == counted(lines)
        machine.tell("upgrade: the running cell", whole, result.outcome.end)
        machine.tell("upgrade: settings are kept", SETTINGS.read_text() == settings)

        def replaced() -> bool:
            return live.status().worker_pid != worker and notebook.status().worker_pid != old

        machine.tell("upgrade: old workers are saved and end", until("old workers' end", replaced))
        machine.tell(
            "upgrade: variables",
            live.execute("print(x)").result().stdout == "older\n"
            and notebook.execute("print(x)").result().stdout == "1\n",
        )
    with connect(SOCKET) as client:
        (told,) = [line for line in client.doctor() if line.name == "anchor"]
        machine.tell("upgrade: doctor tells of the older anchor", told.state == "degraded", told.detail)
    SYSTEM.stop()
    must("systemctl", "start", "cellblockd.socket")
    with connect(SOCKET) as client:
        (told,) = [line for line in client.doctor() if line.name == "anchor"]
        machine.tell("upgrade: the anchor after a stop", told.state == "enforced", told.detail)


def uninstall(machine: Machine) -> None:
    with SYSTEM.client() as client:
        client.open("stays").execute("x = 'stays'").result()
    folder = unpack(machine.options.archive)
    done = run(str(folder / "install.sh"), "--uninstall")
    machine.tell("install.sh --uninstall", done.returncode == 0, last(done.stdout + done.stderr))
    until("nothing left", lambda: not left(), bound=60.0)
    machine.tell("uninstalled: nothing runs", not left(), left())
    # Those of users are an installation of their own.
    run(str(folder / "install.sh"), "--uninstall", "--user")
    units = run("systemctl", "list-unit-files", "--no-legend", "cellblock*").stdout
    programs = [name for name in ("cellblockd", "cellblock-shim", "cellctl") if shutil.which(name)]
    share = list(Path("/usr/local").glob("**/*cellblock*"))
    machine.tell("uninstalled: no unit, program or document", not (units.strip() or programs or share), share)
    machine.tell("uninstalled: notebooks and settings stay", STATE.is_dir() and SETTINGS.is_file())
    must(str(folder / "install.sh"), "--start")
    with SYSTEM.client() as client:
        result = client.open("stays").execute("print(x)").result(PATIENCE)
        machine.tell("installed again: variables", result.stdout == "stays\n", result.outcome.end)
    SYSTEM.stop()
