"""Functions and classes defined in cells, of every kind that the language and `typing` know."""

from __future__ import annotations

from pathlib import Path

from .restore import restore


def test_functions_keep_all_that_hangs_on_them(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        '''
import functools, math, operator
def full(a, b=[1], *args, k: int = 3, **kw) -> str:
    """Doc."""
    return f"{a}{b}{args}{k}{kw}"
full.tag = {"x": 1}
shared = full.__defaults__[0]
square = lambda x: x * x
part = functools.partial(full, 1, k=5)
bound = "abc".upper
append = shared.append
name_of = operator.attrgetter("__name__")
def outer():
    x = 10
    class Inner:
        def get(self): return x
    return Inner
Inner = outer()
def plain(f):
    @functools.wraps(f)
    def wrapper(*a): return f(*a) + 1
    return wrapper
@plain
def decorated(x):
    "decorated doc"
    return x
@functools.lru_cache(maxsize=7)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
fib(10)
@functools.cache
def cached(x): return x
@functools.singledispatch
def kind(x): return "any"
@kind.register
def _int(x: int): return "int"
def asks():
    yield 1
async def waits(): return 5
space = {"y": 4}
exec("def in_space(): return y", space)
in_space = space["in_space"]
method = Inner().get
renamed = math.floor
import collections
make_table = collections.OrderedDict.fromkeys
''',
        """
import inspect
assert full(1, k=2) == "1[1]()2{}" and full.__doc__ == "Doc." and full.tag == {"x": 1}
assert full.__annotations__ == {"k": int, "return": str} and full.__module__ == "__main__"
append(9)
assert full(1) == "1[1, 9]()3{}" and part() == "1[1, 9]()5{}"
assert square(4) == 16 and bound() == "ABC" and name_of(full) == "full"
assert Inner().get() == 10 and Inner.__qualname__ == "outer.<locals>.Inner" and method() == 10
assert decorated(1) == 2 and decorated.__wrapped__(1) == 1 and decorated.__doc__ == "decorated doc"
assert fib(20) == 6765 and fib.cache_parameters()["maxsize"] == 7 and fib.cache_info().hits > 0
assert cached(3) == 3 and kind(1) == "int" and kind("") == "any" and list(asks()) == [1]
assert inspect.iscoroutinefunction(waits)
space["y"] = 5
assert in_space() == 5 and in_space.__globals__ is space
assert renamed is __import__("math").floor and make_table("ab") == {"a": None, "b": None}
""",
    )
    assert told.left_out == []


def test_classes_keep_what_their_making_gave_them(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import abc, collections, dataclasses, functools, typing
made = []
class Meta(type):
    def __new__(mcls, name, bases, space, **kw):
        made.append(name)
        return super().__new__(mcls, name, bases, {**space, "from_meta": 1})
    def __call__(cls, *a): return super().__call__(*a)
    def __eq__(cls, other): return cls is other
    def __hash__(cls): raise TypeError("no hash")
class WithMeta(metaclass=Meta):
    pass
wm = WithMeta()
class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...
    @classmethod
    def __subclasshook__(cls, other): return NotImplemented
class Square(Shape):
    def __init__(self, side): self.side = side
    def area(self): return self.side ** 2
@Shape.register
class Other: pass
sq = Square(3)
class Registry:
    known = []
    def __init_subclass__(cls, *, tag, **kw):
        super().__init_subclass__(**kw)
        cls.tag = tag
        Registry.known.append(cls)
class Plugin(Registry, tag="p"): pass
class Asking:
    def __init_subclass__(cls, *, needed): cls.needed = needed
class Asked(Asking, needed=[1]): pass
class Slots:
    __slots__ = ("a", "__hidden", "__weakref__")
    def __init__(self): self.a = 1; self.__hidden = 2
    def hidden(self): return self.__hidden
class MoreSlots(Slots):
    __slots__ = {"b": "doc of b"}
so = MoreSlots(); so.b = 5
@dataclasses.dataclass(order=True)
class Data:
    x: int
    y: list = dataclasses.field(default_factory=list, metadata={"m": 1})
    _: dataclasses.KW_ONLY = None
    z: int = 3
@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int = 1
da, fr = Data(1), Frozen(2)
class Props:
    def __init__(self): self._v = 1
    @property
    def v(self):
        "doc of v"
        return self._v
    @v.setter
    def v(self, value): self._v = value
    @functools.cached_property
    def once(self): return object()
    @staticmethod
    def st(): return "st"
    @classmethod
    def cl(cls): return cls
    @functools.singledispatchmethod
    def disp(self, x): return "any"
    @disp.register
    def _(self, x: int): return "int"
    class Nested:
        value = 1
pr = Props(); first = pr.once
class Described:
    def __set_name__(self, owner, name): self.name = name; self.count = getattr(self, "count", 0) + 1
    def __get__(self, obj, cls): return self.name if obj is not None else self
class Uses:
    field = Described()
class Late:
    pass
Late.self_ref, Late.list_of = Late, [Late]
Late.method = lambda self: self.__class__
class Err(Exception):
    def __init__(self, code, text): super().__init__(text); self.code = code
err = Err(3, "text")
class Stack(list):
    def __init__(self, *a, limit): super().__init__(*a); self.limit = limit
st = Stack([1, 2], limit=5)
class Callable:
    def __call__(self): return "called"
    def __eq__(self, o): return True
    __hash__ = None
ca = Callable()
class Guard:
    def __getattr__(self, name): return None
gu = Guard(); gu.x = 1
""",
        """
import dataclasses
assert made == ["WithMeta"] and WithMeta.from_meta == 1 and type(WithMeta) is Meta and type(wm) is WithMeta
try:
    Shape()
except TypeError:
    pass
else:
    raise AssertionError("an abstract class was made")
assert sq.area() == 9 and issubclass(Other, Shape) and isinstance(sq, Shape) and not issubclass(int, Shape)
assert Registry.known == [Plugin] and Plugin.tag == "p"
class Another(Registry, tag="q"): pass
assert Asked.needed == [1] and issubclass(Asked, Asking)
class AskedLater(Asking, needed=2): pass
assert AskedLater.needed == 2
assert Registry.known == [Plugin, Another]
assert so.a == 1 and so.hidden() == 2 and so.b == 5 and not hasattr(so, "__dict__")
assert dataclasses.replace(da, x=2) == Data(2) and Data(1) < Data(2) and da.y is not Data(1).y
assert [f.name for f in dataclasses.fields(Data)] == ["x", "y", "z"] and dataclasses.asdict(da)["z"] == 3
first_field, second_field = dataclasses.fields(Data)[:2]
assert first_field.default is dataclasses.MISSING and second_field.metadata["m"] == 1
assert fr == Frozen(2) and hash(fr) == hash(Frozen(2))
try:
    fr.x = 3
except dataclasses.FrozenInstanceError:
    pass
else:
    raise AssertionError
pr.v = 5
assert pr.v == 5 and Props.v.__doc__ == "doc of v" and pr.once is first and Props().once is not first
assert Props.st() == "st" and Props.cl() is Props and pr.disp(1) == "int" and Props.Nested.value == 1
assert Uses().field == "field" and Uses.field.count == 1
assert Late.self_ref is Late and Late.list_of[0] is Late and Late().method() is Late
assert type(err) is Err and err.code == 3 and err.args == ("text",)
assert st == [1, 2] and st.limit == 5 and type(st) is Stack
assert ca() == "called" and Callable.__hash__ is None
assert gu.x == 1 and gu.y is None
""",
    )
    assert told.left_out == []


def test_what_typing_makes(tmp_path: Path) -> None:
    told = restore(
        tmp_path,
        """
import collections, sys, typing
from typing import *
T = TypeVar("T", bound="Box")
P = ParamSpec("P")
Id = NewType("Id", int)
class Box(Generic[T]):
    def __init__(self, item: T): self.item = item
class IntBox(Box[int]): pass
boxed = Box[int]
box = Box(3)
class Pair(NamedTuple):
    a: int
    b: str = "x"
    def both(self): return (self.a, self.b)
Old = collections.namedtuple("Old", "x y", defaults=[2])
pair, old = Pair(1), Old(1)
class Movie(TypedDict, total=False):
    name: str
movie = Movie(name="m")
class Has(Protocol):
    def area(self) -> int: ...
@runtime_checkable
class Sized2(Protocol):
    def __len__(self) -> int: ...
Alias = dict[str, list[int]] | None
Old_alias = Dict[str, List[T]]
Fn = Callable[[int], str]
Lit = Literal["a", 1]
if sys.version_info >= (3, 12):
    exec('''
type Tree[K] = dict[K, "Tree[K]"]
class New[V: int]:
    def get(self, v: V) -> V: return v
def first[W](items: list[W]) -> W: return items[0]
''')
""",
        """
import sys
assert Box.__parameters__ == (T,) and T.__name__ == "T" and boxed.__origin__ is Box and box.item == 3
assert Box[T] == Box[T] and IntBox(1).item == 1 and get_args(boxed) == (int,) and Id(3) == 3
assert Id.__supertype__ is int and Pair(1) == pair and pair.both() == (1, "x") and pair._replace(a=2).a == 2
assert type(old) is Old and Old(5).y == 2 and old._asdict() == {"x": 1, "y": 2}
assert movie == {"name": "m"} and Movie.__total__ is False and Movie.__annotations__ == {"name": str}
assert isinstance([], Sized2) and not isinstance(3, Sized2) and Has._is_protocol
assert Alias == (dict[str, list[int]] | None) and Old_alias[int] == Dict[str, List[int]]
assert Fn == Callable[[int], str] and Lit == Literal["a", 1]
if sys.version_info >= (3, 12):
    assert New().get(3) == 3 and first([1]) == 1 and Tree.__name__ == "Tree" and Tree[int].__origin__ is Tree
    assert New.__type_params__[0].__bound__ is int and first.__type_params__[0].__name__ == "W"
""",
    )
    assert told.left_out == []
