"""What the `ExecutionService` plug-in makes of a cell's source before it runs."""

from __future__ import annotations

import math
import sys
import time
import types
import warnings
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from cellblock_worker.execution_service.source import Prepared, prepare

transform = TransformerManager().transform_cell


def look(code: str, *, autofix: bool = False, **names: Any) -> Prepared:
    return prepare(code, autofix=autofix, namespace=names, transform=transform)


def refusal(code: str, **names: Any) -> tuple[str, int | None, int | None]:
    refused = look(code, **names).refused
    assert refused is not None, "the cell was not refused"
    return refused["message"], refused["line"], refused["column"]


def issues(code: str, rule: str, **names: Any) -> list[tuple[str, int]]:
    found = look(code, **names).lint_report["issues"]
    return [(entry["message"], entry["line"]) for entry in found if entry["rule_id"] == rule]


def undefined(code: str, **names: Any) -> list[str]:
    return [message.split("'")[1] for message, _ in issues(code, "DA1002", **names)]


def test_a_plain_cell_passes_unchanged_and_without_remarks() -> None:
    for autofix in (True, False):
        assert look("x=1", autofix=autofix) == Prepared("x=1", {"engine": "builtin", "issues": []})


# Syntax.


@pytest.mark.parametrize(
    ("code", "message", "line", "column"),
    [
        ("y=5\ndef f(:\n  pass", "Syntax Error on line 2: invalid syntax", 2, 7),
        ("print((1)", "Syntax Error on line 1: '(' was never closed", 1, 6),
        ("x = 'é'; return x", "Syntax Error on line 1: 'return' outside function", 1, 10),
        ("for i in x:\n    pass\n'é'; break", "Syntax Error on line 3: 'break' outside loop", 3, 6),
        (
            "if 1:\n",
            "Syntax Error on line 1: expected an indented block after 'if' statement on line 1",
            1,
            6,
        ),
        ("x = 'é' y", "Syntax Error on line 1: invalid syntax", 1, 9),
    ],
)
def test_what_does_not_compile_is_refused_with_its_place(
    code: str, message: str, line: int, column: int
) -> None:
    assert refusal(code) == (message, line, column)


def test_a_syntax_error_is_reported_as_da0002_with_a_suggestion_per_hint() -> None:
    prepared = look("x = (1", autofix=True)
    assert prepared.refused == {
        "message": "Syntax Error on line 1: '(' was never closed",
        "line": 1,
        "column": 5,
        "suggestions": ["Close every bracket that is opened"],
        "syntax": True,
    }
    assert prepared.code == "x = (1"
    assert prepared.autofix_report is None
    error, hint = prepared.lint_report["issues"]
    assert (error["rule_id"], error["severity"], error["message"]) == (
        "DA0002",
        "error",
        "Syntax Error on line 1: '(' was never closed",
    )
    assert (hint["rule_id"], hint["message"]) == ("DA0002_SUGGESTION", "Close every bracket that is opened")
    keys = {"severity", "message", "rule_id", "line", "column", "suggestion", "fixable"}
    assert error.keys() == hint.keys() == keys


def test_lines_are_those_of_the_cell_as_written() -> None:
    # IPython drops the blank lines and the indentation, and makes one line of the command.
    code = "\n\n  !ls \\\n    -l\n  x = 1\n  if x:\n  y = 2"
    assert refusal(code) == (
        "Syntax Error on line 7: expected an indented block after 'if' statement on line 6",
        7,
        3,
    )
    assert refusal(">>> x = 1\n>>> return x") == ("Syntax Error on line 2: 'return' outside function", 2, 5)


@pytest.mark.parametrize(
    "code",
    [
        "%time x = 3",
        "!ls",
        "files = !ls",
        "%%time\nthis is not python",
        "print?",
        "await f()",
        "async with a as b:\n    pass",
        "[x async for x in y]",
        # The engine compiles statement by statement.
        "x = 1\nfrom __future__ import annotations",
        "x = 1\nglobal x",
        "",
        "   \n\n",
        "# nothing",
    ],
)
def test_what_the_engine_runs_is_not_refused(code: str) -> None:
    assert look(code).refused is None


def test_warnings_about_the_code_are_left_to_the_engine() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        look("x = '\\d'\nif x is 'y': pass")
    assert caught == []


# Anti-patterns.


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import random\no = random.choice=['A']", "Function call written as assignment"),
        ("x = 1\nplt.title = 'T'", "Function call written as assignment"),
        ("def f():\n    np.mean = [1]", "Function call written as assignment"),
        ("import random\nx = random.choice['a', 'b']", "Square brackets used instead of parentheses"),
        ("import numpy as np\nprint(np.random.choice[[1]])", "Square brackets used instead of parentheses"),
        ("x = 1\nv = int[3]", "Type conversion with wrong syntax"),
        ("x = 1\nv = [float[s] for s in 'ab']", "Type conversion with wrong syntax"),
        ("x = 1\nv = list[range(3)]", "Type conversion with wrong syntax"),
        ("x = 1\nv: int = str[5]", "Type conversion with wrong syntax"),
        ("x = 1\nv = dict[[('a', 1)]]", "Type conversion with wrong syntax"),
    ],
)
def test_the_three_anti_patterns_are_refused(code: str, what: str) -> None:
    prepared = look(code)
    assert prepared.refused is not None
    assert prepared.refused["message"] == f"Anti-pattern detected on line 2: {what}"
    assert prepared.refused["line"] == 2
    assert prepared.refused["syntax"] is False
    right, wrong = prepared.refused["suggestions"]
    assert right.startswith("CORRECT: ")
    assert wrong.startswith("WRONG: ")
    assert [entry["rule_id"] for entry in prepared.lint_report["issues"]] == [
        "DA0002",
        "DA0002_SUGGESTION",
        "DA0002_SUGGESTION",
    ]


def test_the_first_anti_pattern_of_several_is_named() -> None:
    code = "a = 1\nb = int[3]\nimport random\nrandom.choice = 3\nint[random.choice[2]]"
    assert refusal(code) == ("Anti-pattern detected on line 2: Type conversion with wrong syntax", 2, 5)


@pytest.mark.parametrize(
    "code",
    [
        "# plt.show = x\ns = 'plt.show = x; v = int[3]; random.choice[2]'",
        "s = f'{np.pi=} {random.choice[0]} {int[3]}'",
        "summary_stats.columns = ['a']",
        "pd.options.display.max_rows = 3",
        "pd.DataFrame.show = print",
        "np.x += 1",
        "np.x: int = 1",
        "np.mean == 3",
        "f(np=1, random=2)",
        "def f(a: list[int] = None, b: tuple[int, ...] = ()) -> dict[str, int]: pass",
        "x: dict[str, int] = {}",
        "x: 'int[3]' = int(3)",
        "x: int[3] = 5",
        "Alias = list[int]",
        "Alias = dict[str, list['Node']] | None",
        "Alias = tuple[()]",
        "Alias = list[Literal[1, 2]]",
        "Alias = tuple[int, ...]",
        "Items = list[create_model('Item')]",
        "class A(list[int]): pass",
        "v = cast(list[int], x)",
        # The name stands for something else.
        "stats = Frame()\nstats.columns = ['a']",
        "def f(stats):\n    stats.mean = 3",
        "for stats in runs:\n    stats.name = 'x'",
        "random = Bag()\nx = random.choice[0]",
        "str = {'a': 1}\nv = str['a']",
        "from mine import int\nv = int[3]",
        "x = my.random.choice[0]",
        "x = choice[0]",
    ],
)
def test_what_only_looks_like_an_anti_pattern_passes(code: str) -> None:
    prepared = look(code, autofix=True)
    assert prepared.refused is None
    assert prepared.code == code


def test_a_name_that_holds_something_else_in_the_notebook_passes() -> None:
    held = types.SimpleNamespace(choice=[1, 2])
    assert look("stats.columns = ['a']", stats=held).refused is None
    assert look("x = random.choice[0]", random=held).refused is None
    assert look("v = int[3]", int={3: 4}).refused is None
    # An import makes it the module again; the placeholder for a module is taken for one.
    assert look("import random\nx = random.choice[0]", random=held).refused is not None
    assert look("stats.mean = 3", stats=None).refused is not None


# Lint.


def test_undefined_names_are_told_once_at_their_first_use() -> None:
    code = "x = [y for y in 'ab']\nprint(nope_x)\nprint('é', nope_y, nope_x)\nprint(y)"
    assert issues(code, "DA1002") == [
        ("Possibly undefined name: 'nope_x'", 2),
        ("Possibly undefined name: 'nope_y'", 3),
        ("Possibly undefined name: 'y'", 4),
    ]
    columns = [entry["column"] for entry in look(code).lint_report["issues"]]
    assert columns == [7, 12, 7]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("def f(a): return a\nprint(a)", ["a"]),
        ("class C:\n    a = 1\n    def f(self): return a", ["a"]),
        ("class C:\n    a = 1\n    b = [a for _ in 'x']", ["a"]),
        ("print([z for z in 'a' if (w := z)], w, z)", ["z"]),
        ("total += 1", ["total"]),
        ("%matplotlib inline\nprint(nope)", ["nope"]),
        ("@decorate\nclass C(Base, metaclass=Meta): pass", ["decorate", "Base", "Meta"]),
        ("def f(a=later): pass", ["later"]),
        ("x.attribute.other", ["x"]),
    ],
)
def test_undefined_names_are_found_by_scope(code: str, names: list[str]) -> None:
    assert undefined(code) == names


@pytest.mark.parametrize(
    "code",
    [
        "class C:\n    a = 1\n    b = a\n    def f(self): return __class__, self",
        "def f(*args, k, **more): return args, k, more\nlambda a, *b, c=1: (a, b, c)",
        "if (n := 3) > 2: print(n)",
        "match [1]:\n    case [a, *b] | {'k': a, **b}: print(a, b)\n    case str() as s: print(s)",
        "try: pass\nexcept* ValueError as e: print(e)",
        "try:\n    unicode\nexcept NameError:\n    print('3')",
        "try:\n    def f(): return maybe\nexcept (ValueError, NameError): pass",
        "from math import *\nprint(sqrt(pi))",
        "x = 1\ndel x\nprint(x)",
        "try:\n    del cache\nexcept Exception: pass",
        "print(__file__, __name__, __builtins__, _, __, _3, _i, _i3)",
        "def f():\n    global late\n    late = 1\nf()\nprint(late)",
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    return g",
        "def f(): return later\nlater = 1",
        "{k: v for k, v in {}.items() for w in [v] if w}",
        "async def f():\n    async with open('x') as a, a as b:\n        async for c in b: print(c)",
        "for i, (a, *b) in []: print(i, a, b)\nelse: print(i)",
        "import os.path as p, sys\nprint(p, sys)",
        "exec('made = 1')\nprint(made)",
        "globals()['made'] = 1\nprint(made)",
        "%run other.py\nprint(made)",
        "%time made = 1\nprint(made)",
        "from __future__ import annotations\nx: int = 1",
    ],
)
def test_no_false_alarm_about_names(code: str) -> None:
    assert undefined(code) == []


def test_names_of_the_notebook_are_defined() -> None:
    assert undefined("print(df, np)", df=1, np=2) == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with Python 3.12")
@pytest.mark.parametrize(
    "code",
    [
        "type Pair[T] = tuple[T, T]\nx: Pair[int]",
        "def first[T: int](xs: list[T]) -> T: return xs[0]",
        "class Box[T]:\n    def get(self) -> T: ...",
    ],
)
def test_type_parameters_are_names(code: str) -> None:
    assert undefined(code) == []


def test_unused_imports_are_told() -> None:
    code = "import os, sys as system\nfrom math import pi\nprint(system)"
    assert issues(code, "DA1001") == [("Unused import: 'os'", 1), ("Unused import: 'pi'", 2)]
    for used in (
        "import os.path\nos.sep",
        "import os\n!echo {os.sep}",
        "import os\n%timeit os.getcwd()",
        "import os as os",
        "from __future__ import annotations",
        "import os\nprint(f'{os}')",
        "import os\ndef f(): return os",
    ):
        assert issues(used, "DA1001") == []


# Hostile cells.


def deep(depth: int) -> str:
    return "".join(" " * level + "if 1:\n" for level in range(depth)) + " " * depth + "x=1"


@pytest.mark.parametrize(
    "code",
    [
        "-" * 50_000 + "1",
        "(" * 5_000 + ")" * 5_000,
        "1" + "+1" * 50_000,
        "a" + ".b" * 50_000,
        "f" + "()" * 50_000,
        "not " * 50_000 + "1",
        "lambda:" * 3_000 + "1",
        "x = '" + "é" * 1_000_000 + "'",
        "x = [" + "1," * 300_000 + "]",
        "é = " + ",".join(f"a{number}" for number in range(20_000)),
        "é = " + ",".join("m.sqrt[1]" for number in range(10_000)),
        "import math as m\n" * 10_000,
        "x" * 1_000_000,
        "x = 1\0",
        "x = '\ud800'",
        "\ufeffx = 1",
        "x = 1\x0cy = 2\x1cz\u2028",
        deep(99),
        deep(101),
        "x = (" + "a[" * 180 + "1" + "]" * 180 + ")",
    ],
    ids=map(str, range(20)),
)
def test_no_cell_makes_it_raise_or_hang(code: str) -> None:
    started = time.monotonic()
    prepared = prepare(code, autofix=True, namespace={"m": math}, transform=lambda text: text)
    assert time.monotonic() - started < 10
    assert len(repr(prepared.lint_report)) < 200_000


def test_code_that_cannot_be_checked_is_left_to_the_engine() -> None:
    prepared = look("x = 1" + "+1" * 50_000, autofix=True)
    assert prepared.refused is None
    assert [entry["rule_id"] for entry in prepared.lint_report["issues"]] == ["DA0001"]


def test_a_transform_that_fails_is_left_to_the_engine() -> None:
    def fail(code: str) -> str:
        raise RuntimeError("a transformer of the user's")

    prepared = prepare("x = 1", autofix=True, namespace={}, transform=fail)
    assert (prepared.code, prepared.refused) == ("x = 1", None)
    assert [entry["rule_id"] for entry in prepared.lint_report["issues"]] == ["DA0001"]


def test_a_transform_that_finds_a_syntax_error_refuses() -> None:
    def fail(code: str) -> str:
        raise SyntaxError("no such prompt", ("<cell>", 2, 3, None))

    prepared = prepare("x = 1\nyyyy", autofix=True, namespace={}, transform=fail)
    assert prepared.refused is not None
    assert prepared.refused["message"] == "Syntax Error on line 2: no such prompt"


# Cost.


def spent(lines: int) -> float:
    cell = "\n".join(
        f"v{number} = [q for q in range({number}) if math.sqrt(q) > 1]" for number in range(lines)
    )

    def once() -> float:
        started = time.process_time()
        prepare(cell, autofix=True, namespace={"math": math}, transform=lambda text: text)
        return time.process_time() - started

    return min(once() for _ in range(3))


def test_the_cost_grows_with_the_lines_and_not_faster() -> None:
    # Ten times the lines; a square would be a hundred times.
    assert spent(5_000) < 30 * spent(500)
