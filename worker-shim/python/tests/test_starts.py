"""A forked worker is what an executed one is, and two forks share nothing by chance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Worker
from .zygote_start import PRELOAD, Zygote


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """One for this module."""
    running = Zygote(tmp_path_factory.mktemp("zygote"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def pair(zygote: Zygote) -> Iterator[tuple[Worker, Worker]]:
    """A forked worker and an executed one, in one folder."""
    forked, executed = Worker(cwd=zygote.home, zygote=zygote), Worker(cwd=zygote.home)
    yield forked, executed
    forked.close()
    executed.close()


LOOK = (
    f"PRELOAD = {PRELOAD.replace('?', '').split(',')}\n"
    "import gc, os, signal, sys, tempfile, threading, uuid, warnings\n"
)
SAME = {
    "names": "sorted(globals())",
    "inputs": "In[:1], Out, get_ipython().execution_count, [_, __, ___, _i, _ii, _iii][:3]",
    "environment": "sorted(os.environ.items())",
    "signals": "[(s, str(signal.getsignal(s)).partition(' at ')[0]) for s in sorted(signal.valid_signals())]",
    "kernel's signals":  # 32 and 33 are the C library's own, which it catches from the first thread on.
    "[(line[:6], int(line[8:], 16) & ~(3 << 31)) for line in open('/proc/self/status')"
    " if line[:6] in ('SigBlk', 'SigIgn', 'SigCgt')]",
    "umask": "os.umask(0o22)",
    "folder": "os.getcwd(), _dh, get_ipython().starting_dir",
    "search path": "sys.path",
    "arguments": "sys.argv, sys.flags, sys.orig_argv[:2]",
    # The harness's own stand on top.
    "files": "sorted(os.readlink(f'/proc/self/fd/{fd}').split(':')[0] for fd in range(12)"
    " if os.path.lexists(f'/proc/self/fd/{fd}') and not os.get_inheritable(fd))",
    "threads": "threading.active_count(), len(os.listdir('/proc/self/task')), threading.main_thread().name",
    "garbage": "gc.isenabled(), gc.get_threshold()",
    "temporary folder": "tempfile.gettempdir(), tempfile.tempdir",
    "streams": "sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout is sys.__stdout__, sys.stdin.fileno()",
    "hooks": "type(sys.displayhook).__name__, sys.excepthook.__name__, sys.gettrace(), sys.getprofile()",
    "last error": "[n for n in vars(sys) if n.startswith('last_')]",
    "builtins": "sorted(n for n in dir(__builtins__) if n[0] != '_')",
    "callbacks": "{e: len(c) for e, c in get_ipython().events.callbacks.items()}",
    "warnings": "[__import__(m) for m in PRELOAD], sorted(map(str, warnings.filters)),"
    " warnings.showwarning.__name__",
    "main": "sys.modules['__main__'].__dict__ is globals(), __name__, get_ipython().user_module.__name__",
    "shell": "type(get_ipython()).__name__, get_ipython() is get_ipython().instance(),"
    " type(get_ipython().last_execution_result).__name__, get_ipython().history_manager.session_number",
    "settings": "sorted((p, d, f) for p, d, f in os.walk(os.environ['IPYTHONDIR']))",
    "processes": "__import__('multiprocessing').Process().name,"
    " __import__('multiprocessing').active_children()",
    "uuids": "uuid._node, uuid._last_timestamp",
    "locale": "__import__('locale').setlocale(0), __import__('locale').getlocale()",
    "rcParams": "dict.items(__import__('matplotlib').rcParams)",
    "pyplot": "(p := __import__('matplotlib.pyplot').pyplot).get_fignums(),"
    " p._backend_mod, p.isinteractive()",
    "backend": "p.get_backend(), p.figure().number, p.close('all'), type(p.show).__name__",
    "events of figures": "{e: len(c) for e, c in get_ipython().events.callbacks.items()}",
    "rcParams with a figure": "dict.items(__import__('matplotlib').rcParams)",
    "pandas": "sorted((k, str(__import__('pandas').get_option(k))) for k in"
    " __import__('pandas')._config.config._registered_options)",
    "numpy": "__import__('numpy').get_printoptions()",
    "renderers": "str(__import__('plotly').io.renderers), str(__import__('plotly').io.templates)",
    "warned": "[m for m in ('pandas', 'numpy', 'IPython') if '__warningregistry__' in vars(sys.modules[m])]",
}


@pytest.mark.parametrize("what", SAME)
def test_a_fork_is_like_a_fresh_start(pair: tuple[Worker, Worker], what: str) -> None:
    if any(word in SAME[what] for word in ("matplotlib", "pandas", "numpy", "plotly")):
        pytest.importorskip("pandas")
        pytest.importorskip("plotly")
        pytest.importorskip("matplotlib")
    code = f"{LOOK}print({SAME[what]})"
    forked, executed = (worker.run(code) for worker in pair)
    assert (forked.end, executed.end) == ("ok", "ok"), forked.outputs
    assert forked.stream("stdout") == executed.stream("stdout")


DRAWN = {
    "random": "random.random()",
    "system": "random.SystemRandom().random()",
    "secrets": "secrets.token_hex()",
    "numpy": "numpy.random.rand()",
    "generator": "numpy.random.default_rng().random()",
    "uuid1": "uuid.uuid1()",
    "node": "uuid._random_getnode()",
    "uuid4": "uuid.uuid4()",
    "temporary file": "tempfile.mktemp()",
    "temporary folder": "tempfile.mkdtemp()",
    "key": "bytes(multiprocessing.current_process().authkey)",
    "key of OpenSSL": "ssl.RAND_bytes(8)",
    "semaphore": "multiprocessing.synchronize.SemLock._make_name()",
}


@pytest.fixture(scope="module")
def siblings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Worker, Worker]]:
    """Two forks of a zygote that has drawn from everything."""
    home = tmp_path_factory.mktemp("drawn")
    imports = "import multiprocessing.synchronize, numpy, random, secrets, ssl, tempfile, uuid\n"
    used = "multiprocessing.Process()\nuuid.getnode()\nuuid.uuid1(1, 1)\n"
    (home / "drawing.py").write_text(imports + used + "".join(f"{code}\n" for code in DRAWN.values()))
    zygote = Zygote(home, "drawing", search=home)
    assert "up" in zygote.report, zygote.report
    workers = Worker(cwd=home, zygote=zygote), Worker(cwd=home, zygote=zygote)
    for worker in workers:
        seen = worker.run(f"{imports}print(uuid._node, uuid._last_timestamp)")
        assert seen.stream("stdout") == "None None\n"
    yield workers
    for worker in workers:
        worker.close()
    zygote.close()


@pytest.mark.parametrize("what", DRAWN)
def test_siblings_draw_differently(siblings: tuple[Worker, Worker], what: str) -> None:
    first, second = (worker.run(f"print({DRAWN[what]})") for worker in siblings)
    assert (first.end, second.end) == ("ok", "ok"), first.outputs
    assert first.stream("stdout") != second.stream("stdout")


def test_siblings_draw_alike_from_one_seed(siblings: tuple[Worker, Worker]) -> None:
    code = "random.seed(7); numpy.random.seed(7)\nprint(random.random(), numpy.random.rand())"
    first, second = (worker.run(code).stream("stdout") for worker in siblings)
    assert first == second == "0.32383276483316237 0.07630828937395717\n"


def test_children_are_named_as_in_a_fresh_start(siblings: tuple[Worker, Worker]) -> None:
    for worker in siblings:
        assert worker.run("print(multiprocessing.Process().name)").stream("stdout") == "Process-1\n"


def test_settings_are_made_where_they_are_missing(tmp_path: Path) -> None:
    zygote = Zygote(tmp_path, "")
    settings = tmp_path / ".ipython"
    made = {path.relative_to(tmp_path): path.is_dir() for path in settings.rglob("*")}
    # A sandbox has a temporary folder of its own.
    settings.rename(tmp_path / "the zygote's")
    worker = Worker(cwd=tmp_path, zygote=zygote)
    assert made
    assert {path.relative_to(tmp_path): path.is_dir() for path in settings.rglob("*")} == made
    worker.close()
    zygote.close()
