#!/usr/bin/env python3
"""Workers that a zygote forks, on a machine whose cgroups this project's own tests do not have.

    join.py --bin-dir DIR [--python PATH] [--user NAME] [--no-delegate] [--no-unit]

As limits.py. For a worker that is forked when it is asked for, and for a spare: its parent, groups and user
namespace, exit code 7, SIGSEGV, a limit of memory; and the zygote's death. With `--no-unit` cellblockd is in
no unit of systemd, where nothing would outlive it, and all of this is looked at a second time after it was
killed and started again. Exits with 1 when one of them is not as it must be. `clients/python/src` must be on
PYTHONPATH.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from unit import Unit, arguments, connect

import cellblock

MEMORY = 200_000_000
PROFILE = f"""version = 1
base = "default"
preload = []
spares = SPARES
[limits]
memory_bytes = {MEMORY}
processes = 32
"""
PROFILES = {name: PROFILE.replace("SPARES", count) for name, count in (("forked", "0"), ("spare", "1"))}

LOOK = """import os
with open('/proc/self/uid_map') as file: ids = [line.split() for line in file]
print(os.getppid(), len(ids), ids[0][2])"""
SPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
HOARD = "hoard = []\nwhile True: hoard.append(b'x' * 4_000_000)"


def main() -> int:
    options = arguments(__doc__ or "").parse_args()
    delegate = not options.no_delegate
    unit = Unit(
        options.bin_dir, options.python, options.user, delegate, PROFILES, True, is_unit=not options.no_unit
    )
    try:
        with connect(unit.socket) as client:
            wrong = sum(check(client, profile) for profile in PROFILES)
            kept = client.open("kept", "forked")
            kept.execute("x = 7").result()
        if options.no_unit:
            unit.restart()
            with connect(unit.socket) as client:
                live = client.open("kept", "forked").execute("print(x)").result()
                print(
                    "ok    " if live.stdout == "7\n" else "FAILED",
                    "restarted: a worker from before",
                    flush=True,
                )
                wrong += live.stdout != "7\n"
                wrong += sum(check(client, profile, "again") for profile in PROFILES)
                # Workers outlive their daemon.
                for info in client.notebooks():
                    client.open(info.name).delete()
        return min(1, wrong)
    finally:
        unit.stop()


def check(client: cellblock.Client, profile: str, when: str = "") -> int:
    """All of it; how much was wrong. `when` is part of the notebooks' names."""
    wrong = 0

    def tell(name: str, passed: bool, detail: str) -> None:
        nonlocal wrong
        wrong += not passed
        print(f"{'ok    ' if passed else 'FAILED'} {profile}, {name}: {detail}", flush=True)

    # The first begins the zygote, and is executed meanwhile.
    first = client.open(f"{profile}0{when}", profile)
    first.execute("keep = 1").result()
    for number, (code, cause, value) in enumerate(
        (
            ("os._exit(7)", "exited", 7),
            ("os.kill(os.getpid(), 11)", "signalled", signal.SIGSEGV),
            (HOARD, "", 0),
        )
    ):
        await_warm(client, profile)
        notebook = client.open(f"{profile}{number + 1}{when}", profile)
        looked = notebook.execute(LOOK).result()
        status = notebook.status()
        worker = Path("/proc", str(status.worker_pid))
        init = parent(worker)
        tell("started", status.forked is True, status.not_forked or "forked")
        tell("its parent is 1, and one id is mapped", looked.stdout == "1 1 1\n", looked.stdout.strip())
        same = [space for space in SPACES if link(worker, space) == link(init, space)]
        own = link(worker, "user") != link(init, "user")
        tell("namespaces are init's, but for its user's", same == list(SPACES) and own, " ".join(same))
        group = (worker / "cgroup").read_text()
        tell("its group is init's", group == (init / "cgroup").read_text(), group.strip())
        bound = Path("/sys/fs/cgroup", group.strip().rpartition("::/")[2], "memory.max").read_text().strip()
        tell("bound", bound.isdigit() and int(bound) <= MEMORY, bound)
        end = notebook.execute(code).result().outcome.end
        if cause:
            died = isinstance(end, cellblock.WorkerDied) and end.cause == cause
            tell(cause, died and value in (end.code, end.signal), str(end))
        else:
            hit = (
                isinstance(end, cellblock.LimitHit) and end.limit == "memory" and end.reached >= MEMORY * 0.97
            )
            tell("memory", hit, str(end))
        again = notebook.execute("print(6 * 7)").result()
        tell("the next cell", again.outcome.ok and again.stdout == "42\n", str(again.outcome.end))
    await_warm(client, profile)
    held = client.open(f"{profile}held{when}", profile)
    held.execute("x = 5").result()
    # All that have its command line, which are its forks too, but the one that is to live.
    for process in forks(but=held.status().worker_pid):
        os.kill(process, signal.SIGKILL)
    kept = held.execute("print(x)").result()
    tell("the zygote's death", kept.stdout == "5\n", str(kept.outcome.end))
    after = client.open(f"{profile}after{when}", profile).execute("print(1)").result()
    tell("a notebook after it", after.outcome.ok, str(after.outcome.end))
    await_warm(client, profile)
    return wrong


def await_warm(client: cellblock.Client, profile: str) -> None:
    """Until its zygote is up and its spares are there."""
    deadline = time.monotonic() + 300
    while True:
        found = {info.profile: info for info in client.warm()}.get(profile)
        if found and found.zygote == "up" and found.spares_ready >= found.spares_wanted:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{profile} is not warm: {found}")
        time.sleep(0.2)


def parent(process: Path) -> Path:
    """The process that started this one."""
    line = next(line for line in (process / "status").read_text().splitlines() if line.startswith("PPid:"))
    return Path("/proc", line.split()[1])


def link(process: Path, space: str) -> str:
    """Which namespace of a kind it is in."""
    return str((process / "ns" / space).readlink())


def forks(but: int | None) -> list[int]:
    """All zygotes and their workers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
        except OSError:
            continue
        if "import cellblock_worker.zygote" in words and int(process.name) != but:
            found.append(int(process.name))
    return found


if __name__ == "__main__":
    sys.exit(main())
