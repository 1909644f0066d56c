"""Kinds of the standard library, files, and the state of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .restore import PACKAGES, restore


def test_kinds_of_the_standard_library(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import array, collections, contextlib, datetime, decimal, fractions, functools, io, itertools, logging
import pathlib, random, re, string, types, uuid, weakref, zoneinfo
d = {"a": 1, "b": 2}
views = [d.keys(), d.values(), d.items(), types.MappingProxyType(d)]
class K: pass
k = K(); k2 = K()
proxy = vars(K)
ref, dead = weakref.ref(k), weakref.ref(K())
wk, wv, ws = weakref.WeakKeyDictionary({k: 1}), weakref.WeakValueDictionary({"k": k}), weakref.WeakSet([k])
k.back = wk
raw = bytearray(b"abc"); mv = memoryview(raw); ro = memoryview(b"xyz")
wide = memoryview(bytearray(8)).cast("i")
dd = collections.defaultdict(lambda: [7]); dd["x"].append(1)
od = collections.OrderedDict(a=1); cm = collections.ChainMap(d, {"c": 3})
dq = collections.deque([1], maxlen=2)
log = logging.getLogger("mine"); pattern = re.compile("a+"); path = pathlib.Path("x")
ns = types.SimpleNamespace(d=d)
rng = random.Random(3); expected = random.Random(3).random()
sio = io.StringIO("text"); sio.read(2); bio = io.BytesIO(b"data")
num = [decimal.Decimal("1.5"), fractions.Fraction(1, 3), 3+4j, uuid.UUID(int=5), datetime.date(2024, 1, 1)]
tz = datetime.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")); arr = array.array("d", [1.0, 2.0])
special = [None, ..., NotImplemented, type(None), type(...), types.FunctionType, dict, len]
exc = KeyError("k"); exc.add_note("note"); group = ExceptionGroup("g", [ValueError(1)])
os_error = OSError(2, "no", "f")
count = itertools.count(5, 2); next(count); walk = iter([1, 2, 3]); next(walk)
import sys; handmade = types.ModuleType("handmade"); handmade.x = 3; sys.modules["handmade"] = handmade
mods = [string, __import__("os").path]
cyc = []; cyc.append((cyc,)); sl = slice(1, 2); rg = range(5); fz = frozenset([k, 1])
alias = d
template = string.Template("$x")
class Single:
    def __reduce__(self): return "ONLY"
ONLY = Single(); also = [ONLY]
""",
        """
d["z"] = 26
assert "z" in views[0] and 26 in views[1] and ("z", 26) in views[2] and views[3]["z"] == 26 and alias is d
assert ns.d is d and cm["z"] == 26 and proxy["__module__"] == "__main__"
K.added = 1
assert proxy["added"] == 1 and ref() is k and dead() is None and wk[k] == 1 and wv["k"] is k and k in ws
assert k.back is wk
raw[0] = 65
assert mv.tobytes() == b"Abc" and not mv.readonly and ro.readonly and wide.tolist() == [0, 0]
assert dd["x"] == [7, 1] and dd["new"] == [7] and od == {"a": 1} and dq.maxlen == 2
assert log is logging.getLogger("mine") and pattern.match("aa")
assert path.name == "x" and rng.random() == expected
assert sio.read() == "xt" and bio.read() == b"data" and num[1] == fractions.Fraction(1, 3)
assert tz.tzname() == "UTC"
assert arr.tolist() == [1.0, 2.0] and special[1] is ...
assert special[5] is types.FunctionType and special[7] is len
assert exc.__notes__ == ["note"] and isinstance(group.exceptions[0], ValueError) and os_error.filename == "f"
assert next(count) == 7 and list(walk) == [2, 3] and handmade.x == 3 and mods[0] is string
assert cyc[0][0] is cyc and k in fz and template.substitute(x=1) == "1" and also[0] is ONLY
""",
    )
    assert told.left_out == []


def test_what_lives_with_the_process_is_left_out_by_its_type(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import asyncio, concurrent.futures, contextvars, ctypes, itertools, mmap, queue, socket, sqlite3, subprocess
import sys, tempfile, threading
class Job:
    def __init__(self):
        self.name, self.lock, self.items = "job", threading.Lock(), [1, {"db": sqlite3.connect(":memory:")}]
    def __reduce_ex__(self, protocol): return object.__reduce_ex__(self, protocol)
job = Job()
class Mine(threading.Thread): pass
own = {
    "thread": Mine(), "event": threading.Event(), "local": threading.local(), "queue": queue.Queue(),
    "socket": socket.socket(), "pool": concurrent.futures.ThreadPoolExecutor(1),
    "future": concurrent.futures.Future(), "loop": asyncio.new_event_loop(),
    "var": contextvars.ContextVar("v"),
    "map": map(str, []), "zip": zip(), "islice": itertools.islice([], 1), "mmap": mmap.mmap(-1, 10),
    "pointer": ctypes.pointer(ctypes.c_int(3)), "temp": tempfile.TemporaryDirectory(),
    "frame": sys._getframe(),
}
try:
    1 / 0
except ZeroDivisionError as error:
    own["traceback"] = error.__traceback__
def body(): yield
own["lock method"] = own["event"]._cond._lock.acquire
class Raises:
    def __reduce__(self): raise ValueError("not me")
class Exits:
    def __getstate__(self): raise SystemExit
class Odd:
    def __reduce__(self): return 5
own["raises"], own["exits"], own["odd"] = Raises(), Exits(), Odd()
async def waits(): pass
own["coroutine"] = waits()
own["coroutine"].close()
""",
        """
assert job.name == "job" and job.items[0] == 1 and isinstance(job, Job)
for use in (lambda: job.lock.acquire(), lambda: job.items[1]["db"].execute("select 1")):
    try:
        use()
    except NotRestored:
        pass
    else:
        raise AssertionError("it was used")
assert all(type(one).__name__ == "Tombstone" for one in own.values()), own
""",
    )
    reasons = told.reasons()
    assert reasons["job.lock"] == "a lock"
    assert reasons["job.items[1]['db']"] == "a database connection"
    assert reasons["own['thread']"] == "a running thread"
    assert reasons["own['raises']"] == "not me"
    assert len(reasons) == 24
    assert [name for name in told.names if name in ("job", "own")] == ["job", "own"]


def test_open_files_come_back_at_their_position(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\ntwo\nthree\n")
    told = restore(
        tmp_path,
        """
reader = open("in.txt", encoding="utf-8"); reader.readline()
out = open("out.txt", "w"); out.write("kept\\n"); out.flush()
more = open("more.bin", "ab"); more.write(b"x"); more.flush()
gone = open("gone.txt", "w")
import os; os.remove("gone.txt")
late = open("late.txt", "w+"); closed = open("in.txt"); closed.close()
""",
        """
assert reader.readline() == "two\\n" and reader.encoding == "utf-8"
out.write("added\\n"); out.close()
assert open("out.txt").read() == "kept\\nadded\\n" and out.mode == "w"
more.write(b"y"); more.close()
assert open("more.bin", "rb").read() == b"xy"
assert "gone" not in globals()
""",
    )
    assert set(told.reasons()) == {"gone", "late", "closed"}


def test_the_state_of_the_process_comes_back(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import decimal, os, random, sys, warnings
import matplotlib, numpy as np, pandas as pd
os.mkdir("sub"); os.chdir("sub")
os.environ["ADDED"] = "1"; os.environ.pop("MPLBACKEND")
sys.path.insert(0, "/extra")
random.seed(5); np.random.seed(6)
upcoming = (random.Random(5).random(), np.random.RandomState(6).rand())
matplotlib.rcParams["lines.linewidth"] = 9; pd.set_option("display.max_rows", 7)
np.set_printoptions(precision=2)
decimal.getcontext().prec = 5
warnings.filterwarnings("error", "mine")
""",
        """
assert os.path.basename(os.getcwd()) == "sub"
assert os.environ["ADDED"] == "1" and "MPLBACKEND" not in os.environ and sys.path[0] == "/extra"
assert (random.random(), np.random.rand()) == upcoming
assert matplotlib.rcParams["lines.linewidth"] == 9 and pd.get_option("display.max_rows") == 7
assert np.get_printoptions()["precision"] == 2 and decimal.getcontext().prec == 5
try:
    warnings.warn("mine")
except UserWarning:
    pass
else:
    raise AssertionError("the filter is gone")
""",
    )
    assert told.losses == []


def test_a_helper_name_is_saved_only_when_rebound() -> None:
    script = """
import sys; sys.path.insert(0, sys.argv[1])
from cellblock_worker import checkpoint
import math
namespace = {"pd": math, "np": 5, "mine": 1, "_1": 3, "__name__": "__main__"}
saved = checkpoint.save(checkpoint.Subject(namespace, {"pd": math, "np": math}))
assert [one["name"] for one in saved.names] == ["np", "mine"], saved.names
target = {"pd": math, "np": math}
checkpoint.load(saved.stream, saved.buffers, target)
assert target["np"] == 5 and target["pd"] is math
assert "numpy" not in sys.modules, "numpy was imported for nothing"
"""
    subprocess.run([sys.executable, "-c", script, str(PACKAGES)], check=True)


def test_a_class_of_c_that_refuses_is_asked_once_and_left_out_each_time(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        "import re, zlib\nheld = [zlib.compressobj(), zlib.compressobj(), re.compile('a')]\n",
        "assert held[2].match('a')\n",
    )
    assert set(told.reasons()) == {"held[0]", "held[1]"}
