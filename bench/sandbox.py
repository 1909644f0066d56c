"""How long a sandbox takes to be there, and to be gone with 200 processes in it.

Beside bubblewrap (when it is on PATH), which makes a comparable one: the same namespaces, a read-only
system, private /proc and /dev. cellblock's time is what its shim measured, without the start of Python;
bubblewrap's is from its start to the end of `true` in it, so it has two execs more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cellblock

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.figures import Samples

PROCESSES = 200
PROFILE = "version = 1\n[limits]\nprocesses = 256\n"
# They ignore what can be ignored, and half of them are busy.
SWARM = f"""
import os, signal, time
for what in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(what, signal.SIG_IGN)
for number in range({PROCESSES - 1}):
    if os.fork() == 0:
        while number % 2: pass
        while True: time.sleep(60)
"""
BWRAP = ["bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin"]
BWRAP += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc"]
BWRAP += ["--dev", "/dev", "--tmpfs", "/tmp", "--die-with-parent"]


def children(root: int) -> list[int]:
    """All descendants of a process."""
    found = [root]
    for pid in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def wait_gone(pids: list[int]) -> float:
    """When the last of them is gone; a zombie is nobody any more."""

    def lives(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
        except (OSError, IndexError):
            return False

    deadline = time.perf_counter() + 30
    while any(lives(pid) for pid in pids):
        if time.perf_counter() > deadline:
            raise SystemExit("processes are left after 30 s")
    return time.perf_counter()


def ready(client: cellblock.Client, runs: int) -> Samples:
    samples = Samples()
    for number in range(runs + 1):
        notebook = client.open(f"ready-{number}")
        notebook.execute("1").result().raise_for_error()
        made = notebook.status().made_seconds
        assert made is not None
        # The first one also fills the host's caches.
        if number > 0:
            samples.seconds.append(made)
        notebook.delete()
    return samples


def teardown(client: cellblock.Client, runs: int) -> Samples:
    samples = Samples()
    for number in range(runs):
        notebook = client.open(f"teardown-{number}", "swarm")
        notebook.execute(SWARM).result().raise_for_error()
        worker = notebook.status().worker_pid
        assert worker is not None
        pids = children(worker)
        if len(pids) < PROCESSES:
            raise SystemExit(f"only {len(pids)} processes")
        began = time.perf_counter()
        notebook.restart()
        samples.seconds.append(wait_gone(pids) - began)
        notebook.delete()
    return samples


def bwrap_ready(runs: int) -> Samples:
    samples = Samples()
    for number in range(runs + 1):
        began = time.perf_counter()
        subprocess.run([*BWRAP, "true"], check=True)
        if number > 0:
            samples.seconds.append(time.perf_counter() - began)
    return samples


def bwrap_teardown(runs: int) -> Samples:
    samples = Samples()
    for _ in range(runs):
        run = [*BWRAP, "python3", "-c", f"{SWARM}\nprint('ready', flush=True)\ntime.sleep(60)"]
        with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            pids = [pid for pid in children(process.pid) if pid != process.pid]
            began = time.perf_counter()
            # Its child, pid 1 of the sandbox, takes all others with it.
            os.kill(pids[0], signal.SIGKILL)
            samples.seconds.append(wait_gone(pids) - began)
            process.kill()
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", type=Path, required=True)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--cgroup", default="auto", help="as cellblockd's (default: %(default)s)")
    options = parser.parse_args()
    os.environ["CELLBLOCK_CGROUP"] = options.cgroup
    rows: list[tuple[str, Samples]] = []
    folder = Path("/tmp") / f"cellblock-bench-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "swarm.toml").write_text(PROFILE)
        supervisor = cellblock.LocalSupervisor(
            python=options.python, bin_dir=options.bin_dir, profiles=folder
        )
        with supervisor, supervisor.client() as client:
            load = os.getloadavg()[0]
            rows.append(("sandbox ready", ready(client, options.runs)))
            rows.append((f"gone with {PROCESSES} processes", teardown(client, max(5, options.runs // 10))))
    finally:
        shutil.rmtree(folder)
    if shutil.which("bwrap"):
        rows.append(("sandbox ready, bwrap", bwrap_ready(options.runs)))
        if shutil.which("python3", path="/usr/bin"):
            runs = max(5, options.runs // 10)
            rows.append((f"gone with {PROCESSES} processes, bwrap", bwrap_teardown(runs)))
    print(f"load {load:.1f}, cgroup {options.cgroup}; milliseconds")
    for name, samples in rows:
        print(
            f"{name:34} p50 {1e3 * samples.median:7.2f}  p90 {1e3 * samples.p90:7.2f}"
            f"  p99 {1e3 * samples.p99:7.2f}  ({len(samples.seconds)} runs)"
        )


if __name__ == "__main__":
    main()
