"""What an editor asks between cells. No code of the user's runs unseen, or for long."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cellblock_worker.alarm import Alarm, OutOfTime

from .harness import Worker

TRAPS = """
def trap(*a, **k):
    open('trapped', 'a').write('x')
    raise RuntimeError
class Meta(type):
    __eq__ = __getattribute__ = __instancecheck__ = trap
    __hash__ = trap
class Trapped(metaclass=Meta):
    __len__ = __repr__ = __str__ = __getattr__ = __class_getitem__ = __iter__ = __bool__ = trap
    shape = columns = dtype = property(trap)
class Text(str):
    __len__ = __repr__ = __getitem__ = trap
class Frame(__import__('pandas').DataFrame):
    shape = columns = dtypes = property(trap)
traps = [Trapped(), Text('abc'), {'k': Trapped()}]
trapped, text, nested, frame = *traps, Frame({'a': [1]})
import numpy
objects = numpy.empty(2, dtype=object)
objects[0] = trapped
import os
os.path.exists('trapped') and os.remove('trapped')
"""


ENDLESS = """
class Endless:
    def __dir__(self):
        while True:
            try:
                pass
            except Exception:
                pass
e = Endless()
"""
LOUD = """
class Loud:
    def __repr__(self):
        print('LOUD')
        return 'quiet'
loud = Loud()
"""
WAIT_FOR_ALARM = """
import time
until = time.monotonic() + 10
while not rang and time.monotonic() < until:
    pass
rang
"""


SLOW_AND_LOUD = """
import threading, time
class Slow:
    def __dir__(self):
        print('LOUD')
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
        return []
slow = Slow()
def count():
    for number in range(200):
        print(number)
        time.sleep(0.002)
"""
LAZY = """
import importlib.util, sys
loaded = []
spec = importlib.util.find_spec('statistics')
loader = importlib.util.LazyLoader(spec.loader)
spec.loader = loader
module = importlib.util.module_from_spec(spec)
execute = loader.loader.exec_module
loader.loader.exec_module = lambda module: (loaded.append('statistics'), execute(module))
sys.modules['statistics'] = module
loader.exec_module(module)
class Mean: pass
Mean.__module__ = 'statistics'
mean = Mean()
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    running = Worker(cwd=tmp_path)
    yield running
    running.close()


def variables(worker: Worker) -> dict[str, Any]:
    answer, _ = worker.ask("variables")
    return {variable["name"]: variable for variable in answer["variables"]["variables"]}


def complete(worker: Worker, code: str) -> dict[str, str]:
    answer, _ = worker.ask({"complete": {"cursor": len(code)}}, code)
    return {match["text"]: match["kind"] for match in answer["complete"]["matches"]}


def test_variables_come_with_type_shape_and_preview(worker: Worker) -> None:
    worker.run(
        "import numpy as np, pandas as pd\nn = 3\nf = 0.5\ns = 'abc' * 100\nl = [1, 'a', (2,), {}]\n"
        "d = {'k': [1]}\na = np.zeros((2, 3))\ndf = pd.DataFrame({'x': [1, 2], 3: ['p', 'q']})\n"
        "sr = df['x']\ndef fun(p, *, q): pass"
    )
    found = variables(worker)
    shown = {name: (info["kind"], info["shape"], info["preview"]) for name, info in found.items()}
    assert shown["n"] == ("int", None, "3")
    assert shown["f"] == ("float", None, "0.5")
    assert shown["s"][1] == [300]
    assert shown["s"][2].endswith("'…")
    assert shown["l"] == ("list", [4], "[1, 'a', (…), {}]")
    assert shown["d"] == ("dict", [1], "{'k': […]}")
    assert shown["a"] == ("numpy.ndarray", [2, 3], "float64 [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]")
    assert shown["df"] == ("pandas.DataFrame", [2, 2], "2 rows: x, 3")
    assert [name for name, _ in found["df"]["columns"]] == ["x", "3"]
    assert found["df"]["columns"][0][1] == "int64"
    assert shown["sr"] == ("pandas.Series", [2], "int64, name x")
    assert shown["fun"] == ("function", None, "fun(p, q)")
    assert shown["np"] == ("module", None, "numpy")


def test_listing_variables_runs_no_code_of_the_user(worker: Worker, tmp_path: Path) -> None:
    assert worker.run(TRAPS).end == "ok"
    found = variables(worker)
    assert {"trapped", "text", "nested", "frame", "objects"} <= set(found)
    assert not (tmp_path / "trapped").exists(), "something of the user's ran"
    assert found["objects"]["preview"] == "object"
    # The control: the traps do go off when they are touched.
    worker.run("try: len(text)\nexcept RuntimeError: pass")
    assert (tmp_path / "trapped").exists()


def test_any_number_of_variables_fits_into_one_answer(worker: Worker) -> None:
    worker.run("for i in range(3000): globals()[f'name{i:04}' + 'ä' * 150] = ['\\x00' * 40] * 8")
    answer, _ = worker.ask("variables")
    listed = answer["variables"]["variables"]
    assert listed[-1]["name"].startswith("… ")
    assert listed[-1]["name"].endswith(" more names")
    assert len(listed) > 100


def test_completions_say_what_they_are_and_run_no_property(worker: Worker, tmp_path: Path) -> None:
    worker.run(
        "import math\nvalue = 1\nclass Thing:\n    attr = 1\n    def method(self): pass\n    @property\n"
        "    def prop(self): open('ran', 'w')\nthing = Thing()"
    )
    assert complete(worker, "Thi") == {"Thing": "class"}
    assert complete(worker, "value") == {"value": "instance"}
    assert complete(worker, "math") == {"math": "module"}
    assert complete(worker, "math.sq")[".sqrt"] == "function"
    assert complete(worker, "impor")["import"] == "keyword"
    assert complete(worker, "thing.") == {".attr": "instance", ".method": "function", ".prop": "property"}
    worker.ask({"inspect": {"cursor": 10, "detail": 0}}, "thing.prop")
    complete(worker, "thing.prop.")
    assert not (tmp_path / "ran").exists()


def test_a_question_that_never_ends_is_ended_and_the_worker_goes_on(worker: Worker) -> None:
    worker.run(ENDLESS)
    began = time.monotonic()
    assert complete(worker, "e.") == {}
    assert time.monotonic() - began < 10
    assert worker.run("1 + 1").shape == [("result", "2")]


def test_the_users_own_alarm_outlives_a_question(worker: Worker) -> None:
    worker.run(
        "import signal\nrang = []\nsignal.signal(signal.SIGALRM, lambda *_: rang.append(1))\n"
        "_ = signal.setitimer(signal.ITIMER_REAL, 0.3)"
    )
    complete(worker, "rang.")
    assert worker.run(WAIT_FOR_ALARM).shape[-1] == ("result", "[1]")


def test_what_a_repr_prints_during_inspection_is_nobodys_output(worker: Worker) -> None:
    worker.run(LOUD, execution="made")
    _, payload = worker.ask({"inspect": {"cursor": 4, "detail": 0}}, "loud")
    assert b"quiet" in payload
    assert "LOUD" not in worker.run("print('after')").stream("stdout")
    assert "LOUD" not in worker.wait("made").stream("stdout")


def test_a_thread_prints_on_while_a_question_is_answered(worker: Worker) -> None:
    worker.run(SLOW_AND_LOUD)
    execution = worker.start("thread = threading.Thread(target=count)\nthread.start()")
    worker.wait(execution)
    for _ in range(5):
        complete(worker, "slow.")
    worker.run("thread.join()")
    text = "".join(output.text for output in worker.outputs if output.kind == "stdout")
    assert [line for line in text.split() if line.isdigit()] == [str(number) for number in range(200)]
    assert "LOUD" not in text


def test_broken_bookkeeping_of_names_does_not_keep_a_cell_from_ending(worker: Worker) -> None:
    evil = "import sys\nsys.modules['evil'] = 5\nclass A: pass\nA.__module__ = 'evil'\na = A()"
    assert worker.run(evil).end == "ok"
    # What IPython itself looks at: the cells after it fail, but they end.
    assert worker.run("get_ipython().user_ns_hidden = 5").end == "ok"
    assert worker.run("1").finished["names"] == {"added": [], "changed": [], "removed": []}


def test_lazy_modules_are_not_imported_for_a_name(worker: Worker) -> None:
    worker.run(LAZY)
    variables(worker)
    assert worker.run("print('statistics' in loaded)").stream("stdout") == "False\n"


def test_an_alarm_raises_within_its_call_and_nowhere_else() -> None:
    def spin(seconds: float) -> int:
        until = time.perf_counter() + seconds
        count = 0
        while time.perf_counter() < until:
            count += 1
        return count

    ended = 0
    for number in range(3_000):
        try:
            # Right around the deadline.
            Alarm(0.0005).bound(lambda number=number: spin(0.00047 + (number % 60) * 1e-6))  # type: ignore[misc]
        except OutOfTime:
            ended += 1
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert ended > 0
