"""What other ways of saving variables get wrong, each by its name."""

from __future__ import annotations

from pathlib import Path

from .restore import restore


def test_a_view_still_writes_to_its_base(tmp_path: Path) -> None:
    restore(
        tmp_path,
        """
import numpy as np
base = np.arange(100_000.0)
view = base[10:2_000:3]
turned = base[::-1]
small = np.zeros((3, 4), order="F")
row = small[1]
""",
        """
view[0] = -1.0
assert base[10] == -1.0 and view.base is base
turned[0] = 7.0
assert base[-1] == 7.0
row[:] = 5
assert small[1].tolist() == [5] * 4 and small.flags.f_contiguous
""",
    )


def test_two_equal_arrays_stay_two(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "import numpy as np\na = np.ones(100_000)\nb = np.ones(100_000)\nc = a\n",
        "a[0] = 2\nassert b[0] == 1 and c is a\n",
    )


def test_an_instance_is_one_of_its_class(tmp_path: Path) -> None:
    restore(
        tmp_path,
        """
class Base:
    def who(self): return "base"
class Point(Base):
    def __init__(self, x): self.x = x
    def who(self): return super().who() + f" {self.x}"
p = Point(3)
""",
        """
assert isinstance(p, Point) and isinstance(p, Base) and type(p) is Point
assert p.who() == "base 3" and Point(4).who() == "base 4"
assert Point.__module__ == "__main__"
""",
    )


def test_a_closure_that_calls_itself(tmp_path: Path) -> None:
    restore(
        tmp_path,
        """
def make():
    def factorial(n): return 1 if n == 0 else n * factorial(n - 1)
    return factorial
f = make()
def counter():
    n = 0
    def up():
        nonlocal n
        n += 1
        return n
    def read(): return n
    return up, read
up, read = counter()
up()
""",
        "assert f(5) == 120\nassert f.__closure__[0].cell_contents is f\nassert up() == 2 and read() == 2\n",
    )


def test_a_method_that_uses_get_ipython(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
from IPython.core.interactiveshell import InteractiveShell
from IPython import get_ipython
class Tool:
    def shell(self): return get_ipython()
t = Tool()
""",
        "assert t.shell() is None\n",
    )
    assert told.left_out == []


def test_a_lock_in_a_dict_raises_when_used(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        "import threading\nd = {'lock': threading.Lock(), 'x': 1}\nlock = threading.RLock()\n"
        "def make():\n    held = [threading.Lock()]\n    return lambda: held\nf = make()\n",
        """
assert d["x"] == 1 and "lock" not in globals()
for use in (lambda lock: lock.acquire(), bool, len, iter, lambda lock: lock == 1, lambda lock: lock + 1,
            lambda lock: lock(), lambda lock: lock.x, lambda lock: setattr(lock, "x", 1),
            lambda lock: lock[0]):
    try:
        use(d["lock"])
    except NotRestored as error:
        assert str(error) == "`d['lock']` was not restored: a lock", error
    else:
        raise AssertionError("it was used")
""",
    )
    assert told.reasons() == {"d['lock']": "a lock", "lock": "a lock", "f.<closure>.held[0]": "a lock"}
    assert told.losses == told.left_out
    assert [one["name"] for one in told.saved] == ["threading", "d", "make", "f"]


def test_a_generator_is_left_out(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        "def numbers():\n    yield 1\ng = numbers()\nheld = [1, {'g': numbers()}]\n",
        "assert 'g' not in globals() and list(numbers()) == [1] and held[0] == 1\n",
    )
    assert told.reasons() == {"g": "a generator", "held[1]['g']": "a generator"}


def test_members_of_an_enum_stay_the_only_ones(tmp_path: Path) -> None:
    restore(
        tmp_path,
        """
import enum
member_first = None
class Color(enum.Enum):
    RED = 1
    GREEN = "g"
    ALSO_RED = 1
    @property
    def loud(self): return self.name + "!"
class Number(enum.IntEnum):
    ONE = 1
class Word(enum.StrEnum):
    A = enum.auto()
class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
class Planet(enum.Enum):
    EARTH = (1, 2)
    def __init__(self, mass, radius): self.mass = mass
member_first = Color.RED
both = Right.READ | Right.WRITE
""",
        """
import copy, pickle
assert member_first is Color.RED is Color(1) is Color["RED"] is Color.ALSO_RED
assert Color.RED.loud == "RED!" and list(Color) == [Color.RED, Color.GREEN]
assert Number.ONE + 1 == 2 and Number(1) is Number.ONE and isinstance(Number.ONE, int)
assert Word.A == "a" and both is Right.READ | Right.WRITE and Right.READ in both
assert Planet.EARTH.mass == 1 and Planet((1, 2)) is Planet.EARTH
assert copy.deepcopy(Color.RED) is Color.RED
try:
    Color.RED = 3
except AttributeError:
    pass
else:
    raise AssertionError
""",
    )


def test_a_list_100_000_deep(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
deep = None
for _ in range(100_000):
    deep = [deep]
class Node:
    def __init__(self): self.next = self.prev = None
first = last = Node()
for at in range(50_000):
    node = Node()
    node.prev, last.next, node.at = last, node, at
    last = node
other = 1
""",
        """
depth = 0
while deep is not None:
    [deep] = deep
    depth += 1
assert depth == 100_000
node, count = last, 0
while node is not first:
    assert node.prev.next is node and isinstance(node, Node)
    node, count = node.prev, count + 1
assert count == 50_000 and other == 1
""",
    )
    assert told.left_out == []


def test_globals_held_in_a_list_are_the_live_ones(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "import builtins, os, sys\nheld = [globals(), os.environ, sys.modules, sys.stdout, vars(builtins)]\n",
        """
import builtins, os, sys
assert held[0] is globals() and held[1] is os.environ and held[2] is sys.modules and held[3] is sys.stdout
assert held[4] is vars(builtins)
""",
    )


def test_a_function_sees_a_global_that_changes_later(tmp_path: Path) -> None:
    restore(
        tmp_path,
        "factor = 2\ndef scaled(x): return x * factor\nindirect = [scaled]\n",
        """
assert scaled(3) == 6 and scaled.__globals__ is globals() and indirect[0] is scaled
factor = 10
assert scaled(3) == 30
""",
    )
