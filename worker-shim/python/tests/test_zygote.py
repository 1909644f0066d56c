"""A zygote: when it is one, and what its workers are."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import PACKAGES, Worker
from .zygote_start import Zygote


def _zygote(home: Path, preload: str = "", package: str = "") -> Zygote:
    """One that can import `extra`, whose text is given."""
    if package:
        (home / "extra.py").write_text(package)
    # Isolated Python finds it nowhere else.
    return Zygote(home, preload, search=home)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Zygote]:
    """One with nothing preloaded."""
    zygote = _zygote(tmp_path)
    yield zygote
    zygote.close()


# Becoming one.


def test_it_reports_what_it_has_imported(tmp_path: Path) -> None:
    zygote = _zygote(tmp_path, "json,extra?,no.such.module?", "print('hello from an import')")
    assert zygote.report["up"]["preloaded"] == ["json", "extra"]
    assert zygote.report["up"]["python"].startswith(f"CPython {sys.version.split()[0]}, IPython ")
    assert 0 < zygote.report["up"]["seconds"] < 60
    assert zygote.log.read_text() == "hello from an import\n"
    zygote.close()


@pytest.mark.parametrize(
    ("preload", "package", "detail"),
    [
        (
            "no_such_module",
            "",
            "import no_such_module: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("extra?", "1 / 0", "import extra: ZeroDivisionError: division by zero"),
        ("extra", "raise SystemExit(0)", "import extra: SystemExit: 0"),
        (
            "json,extra",
            "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
            "import extra starts a thread: ",
        ),
        ("extra", "kept = open(__file__)", "import extra keeps a file open (descriptor "),
        ("extra", "import socket\nkept = socket.socket()", "import extra keeps a socket open (descriptor "),
    ],
)
def test_what_cannot_be_forked_is_told(tmp_path: Path, preload: str, package: str, detail: str) -> None:
    zygote = _zygote(tmp_path, preload, package)
    assert zygote.report["failed"]["detail"].startswith(detail)
    assert zygote.exit_code() == 3
    zygote.close()


def test_what_an_import_changes_of_the_process_is_put_back(tmp_path: Path) -> None:
    package = """
import locale, os, signal
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
locale.setlocale(locale.LC_NUMERIC, "C.UTF-8")
os.umask(0o777)
os.chdir("/usr")
"""
    zygote = _zygote(tmp_path, "extra", package)
    look = """import locale, os, signal
print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, signal.pthread_sigmask(signal.SIG_BLOCK, []),
    locale.setlocale(locale.LC_NUMERIC), os.umask(0o22))"""
    forked, executed = Worker(cwd=tmp_path, zygote=zygote), Worker(cwd=tmp_path)
    assert forked.run(look).stream("stdout") == executed.run(look).stream("stdout")
    for worker in (forked, executed):
        worker.close()
    zygote.close()


def test_the_null_device_that_an_import_keeps_is_each_workers_own(tmp_path: Path) -> None:
    package = "kept = open('/dev/null', 'w'), open('/dev/null')"
    zygote = _zygote(tmp_path, "extra", package)
    worker = Worker(cwd=tmp_path, zygote=zygote)
    looked = worker.run("""import extra, os, stat
for file in extra.kept:
    status = os.fstat(file.fileno())
    print(stat.S_ISCHR(status.st_mode), os.major(status.st_rdev), os.minor(status.st_rdev),
        os.get_inheritable(file.fileno()))
extra.kept[0].write("x"), extra.kept[0].flush(), extra.kept[1].read()""")
    assert looked.stream("stdout") == "True 1 3 False\n" * 2
    assert looked.shape[-1] == ("result", "(1, None, '')")
    worker.close()
    zygote.close()


def test_what_c_code_has_printed_is_the_zygotes(tmp_path: Path) -> None:
    zygote = _zygote(tmp_path, "extra", "import ctypes\nctypes.CDLL(None).puts(b'printed by C')")
    worker = Worker(cwd=tmp_path, zygote=zygote)
    assert worker.run("import ctypes\n_ = ctypes.CDLL(None).fflush(None)").outputs == []
    assert zygote.log.read_text() == "printed by C\n"
    worker.close()
    zygote.close()


# Its workers.


def test_workers_end_by_themselves_and_outlive_their_zygote(plain: Zygote, tmp_path: Path) -> None:
    first, second = Worker(cwd=tmp_path, zygote=plain), Worker(cwd=tmp_path, zygote=plain)
    first.start("import os; os._exit(7)")
    assert first.exit_code() == 7
    plain.close()
    assert second.run("1 + 1").shape == [("result", "2")]
    second.start("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert second.exit_code() == -signal.SIGSEGV
    for worker in (first, second):
        worker.close()


def test_a_spare_is_ready_only_when_it_is_claimed(tmp_path: Path) -> None:
    zygote = Zygote(tmp_path)
    worker = Worker(cwd=tmp_path, zygote=zygote, claimed=False)
    worker.pump()
    assert worker.frames == []
    worker.claim()
    assert "ready" in worker.first.meta["body"]
    # It has warmed itself up meanwhile, and nothing shows.
    look = "print(len(In), Out, sorted(n for n in dir() if n[0] != '_'))"
    assert worker.run(look).stream("stdout") == "2 {} ['In', 'Out', 'exit', 'get_ipython', 'open', 'quit']\n"
    count = worker.run("1 + 1").only("result").body["execution_count"]
    assert count == 2
    look = "import os\nprint(os.getcwd(), *_dh)"
    assert worker.run(look).stream("stdout") == f"{tmp_path} {tmp_path}\n"
    worker.close()
    zygote.close()


# By their pids libraries would tell a fork from its parent; in sandboxes of their own all have the same.
SAME_PIDS = """
import ctypes, os, ssl, sys, tempfile
sys.path.insert(0, sys.argv[1])
from cellblock_worker import after_fork
from multiprocessing.synchronize import SemLock
libc = ctypes.CDLL(None, use_errno=True)
NEWUSER, NEWPID = 0x10000000, 0x20000000
def draw():
    names = next(tempfile._get_candidate_names()), SemLock._make_name()
    print(os.getpid(), ssl.RAND_bytes(8).hex(), *names, flush=True)
def within_own_pids(flags, act):
    middle = os.fork()
    if middle == 0:
        assert libc.unshare(flags) == 0, os.strerror(ctypes.get_errno())
        inner = os.fork()
        if inner == 0:
            act()
            os._exit(0)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]))
    assert os.waitpid(middle, 0)[1] == 0
def worker():
    if sys.argv[2] == "reseeded":
        after_fork.reseed()
    draw()
def zygote():
    draw()
    for _ in range(2):
        within_own_pids(NEWPID, worker)
within_own_pids(NEWUSER | NEWPID, zygote)
"""


@pytest.mark.parametrize(("how", "different"), [("reseeded", 2), ("as they were", 1)])
def test_workers_with_one_pid_draw_differently(how: str, different: int) -> None:
    arguments = [sys.executable, "-c", SAME_PIDS, str(PACKAGES), how]
    drawn = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    _, *workers = [line.split() for line in drawn.splitlines()]
    pids, *draws = zip(*workers, strict=True)
    assert pids == ("1", "1")
    assert [len(set(drawn)) for drawn in draws] == [different] * 3


@pytest.mark.parametrize(("said", "threads"), [(None, len(os.sched_getaffinity(0))), ("3", 3)])
def test_pools_have_the_threads_that_the_profile_says(tmp_path: Path, said: str | None, threads: int) -> None:
    pytest.importorskip("numpy")
    pytest.importorskip("pyarrow")
    env = {} if said is None else {"OMP_NUM_THREADS": said}
    zygote = Zygote(tmp_path, "numpy,pyarrow", env)
    worker = Worker(cwd=tmp_path, zygote=zygote)
    count = "len(os.listdir('/proc/self/task'))"
    assert worker.run(f"import os, numpy as np, pyarrow\n{count}").shape == [("result", "1")]
    assert worker.run("a = np.ones((500, 500)); a = a @ a").end == "ok"
    look = f"print({count}, pyarrow.cpu_count(), os.environ.get('OMP_NUM_THREADS'))"
    assert worker.run(look).stream("stdout") == f"{threads} {threads} {said}\n"
    worker.close()
    zygote.close()


def test_frozen_objects_stay_so_and_new_ones_are_collected(plain: Zygote, tmp_path: Path) -> None:
    worker = Worker(cwd=tmp_path, zygote=plain)
    look = (
        "import gc, json; gc.collect(); print(json.dumps([gc.isenabled(), gc.get_freeze_count() > 10_000]))"
    )
    assert json.loads(worker.run(look).stream("stdout")) == [True, True]
    cycle = """import weakref
class Ring: pass
ring = Ring(); ring.ring = ring; gone = weakref.ref(ring)
del ring
gc.collect()
print(gone())"""
    assert worker.run(cycle).stream("stdout") == "None\n"
    worker.close()


def _drawn_by_two(zygote: Zygote, home: Path, look: str) -> list[list[float]]:
    """What two workers of a zygote print."""
    found = []
    for _ in range(2):
        worker = Worker(cwd=home, zygote=zygote)
        found.append(json.loads(worker.run(look).stream("stdout")))
        worker.close()
    zygote.close()
    return found


def test_generators_that_imports_have_made_are_drawn_anew_unless_they_were_seeded(tmp_path: Path) -> None:
    package = """
import random
drawn, seeded, late = random.Random(), random.Random(5), random.Random()
late.seed(7)
class Own(random.Random):
    pass
own = Own()
"""
    zygote = _zygote(tmp_path, "extra", package)
    look = "import extra\nprint([g.random() for g in (extra.drawn, extra.own, extra.seeded, extra.late)])"
    first, second = _drawn_by_two(zygote, tmp_path, look)
    assert [one != other for one, other in zip(first, second, strict=True)] == [True, True, False, False]
    assert first[2:] == [random.Random(5).random(), random.Random(7).random()]


def test_numpys_generators_are_too(tmp_path: Path) -> None:
    package = """
import numpy as np
drawn, seeded = np.random.default_rng(), np.random.default_rng(5)
old, old_seeded = np.random.RandomState(), np.random.RandomState(5)
"""
    pytest.importorskip("numpy")
    zygote = _zygote(tmp_path, "numpy,extra", package)
    look = """import extra, numpy as np
print([float(g.random()) for g in (extra.drawn, extra.old, np.random, extra.seeded, extra.old_seeded)])"""
    first, second = _drawn_by_two(zygote, tmp_path, look)
    assert [one != other for one, other in zip(first, second, strict=True)] == [True] * 3 + [False] * 2


def test_a_notebooks_own_matplotlibrc_counts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    home, workspace = tmp_path / "home", tmp_path / "workspace"
    for folder in (home, workspace):
        folder.mkdir()
    (workspace / "matplotlibrc").write_text("lines.linewidth: 7.5\nbackend: pdf\n")
    zygote = Zygote(home, "matplotlib.pyplot")
    look = """import matplotlib
print([matplotlib.rcParams[name] for name in ('lines.linewidth', 'backend')])
matplotlib.rcdefaults()
print(matplotlib.rcParams['lines.linewidth'])"""
    forked, executed = Worker(cwd=workspace, zygote=zygote), Worker(cwd=workspace)
    told = forked.run(look).stream("stdout")
    assert told == executed.run(look).stream("stdout")
    assert told.startswith("[7.5, 'module://matplotlib_inline.backend_inline']")
    for worker in (forked, executed):
        worker.close()
    zygote.close()
