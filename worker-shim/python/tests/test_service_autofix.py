"""What autofix repairs in a cell's source, and what it leaves alone."""

from __future__ import annotations
import __future__

import collections
import difflib
import math
import random
import sys
import types
import typing
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from cellblock_worker.execution_service.source import Prepared, prepare

transform = TransformerManager().transform_cell


def look(code: str, *, autofix: bool = True, **names: Any) -> Prepared:
    return prepare(code, autofix=autofix, namespace=names, transform=transform)


def fixed(code: str, **names: Any) -> tuple[str, list[str]]:
    prepared = look(code, **names)
    assert prepared.refused is None
    report = prepared.autofix_report
    return prepared.code, [change["rule_id"] for change in report["changes"]] if report else []


def redundant(code: str, **names: Any) -> list[dict[str, Any]]:
    found = look(code, autofix=False, **names).lint_report["issues"]
    return [entry for entry in found if entry["rule_id"] == "DA1101"]


# Imports.


@pytest.mark.parametrize(
    ("code", "is_fixable"),
    [
        ("import math", True),
        ("'doc'\nx = 1\nimport math  # numbers", True),
        ("from math import pi", True),
        ("import math, random", False),
        ("x = 1; import math", False),
        ("print(1)\nimport math", False),
        ("import collections\nimport collections", True),
        ("import collections\nprint(1)\nimport collections", False),
    ],
)
def test_redundant_imports_are_told_and_fixable_when_nothing_can_have_come_between(
    code: str, is_fixable: bool
) -> None:
    assert [entry["fixable"] for entry in redundant(code, math=math, pi=math.pi)] == [is_fixable]
    assert (fixed(code, math=math, pi=math.pi)[1] == ["DA1101"]) is is_fixable


class Lazy(types.ModuleType):
    """As the plug-in's stand-ins: it must not be asked for anything."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the lazy module was asked for {name}")


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import math", {}),
        ("import math", {"math": None}),
        ("import math", {"math": Lazy("math")}),
        ("import math as np", {"np": random}),
        ("from scipy import stats", {"stats": Lazy("scipy.stats")}),
        ("from __future__ import annotations", {"annotations": __future__.annotations}),
        ("math = 3\nimport math", {"math": math}),
        ("import math\ndel math", {"math": math}),
        ("def f():\n    global math\n    math = 3\nimport math", {"math": math}),
        ("import random as math\nimport math", {"math": math}),
        ("%reset -f\nimport math", {"math": math}),
        ("from x import *\nimport math", {"math": math}),
        ("if 1:\n    import math", {"math": math}),
        ("def f():\n    import math", {"math": math}),
    ],
)
def test_an_import_that_may_change_something_is_not_redundant(code: str, names: dict[str, Any]) -> None:
    assert fixed(code, **names) == (code, [])
    assert redundant(code, **names) == []


def test_a_module_that_left_sys_modules_is_imported_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("made_for_this")
    monkeypatch.setitem(sys.modules, "made_for_this", module)
    assert fixed("import made_for_this", made_for_this=module)[1] == ["DA1101"]
    monkeypatch.setitem(sys.modules, "made_for_this", types.ModuleType("made_for_this"))
    assert fixed("import made_for_this", made_for_this=module)[1] == []


# Repairs.


def test_the_autofix_report_tells_all() -> None:
    code = "import math\nx=1\nprint(x, y)\n"
    prepared = look(code, math=math)
    assert prepared.code == "\nx=1\nprint(x, y)\n"
    report = prepared.autofix_report
    assert report is not None
    assert list(report) == [
        "enabled", "applied", "original_code", "fixed_code", "diff", "changes", "lint_before", "lint_after",
    ]  # fmt: skip
    assert report["enabled"] is True
    assert report["applied"] is True
    assert report["original_code"] == code
    assert report["fixed_code"] == prepared.code
    assert (
        report["diff"]
        == "--- before.py\n+++ after.py\n@@ -1,3 +1,3 @@\n-import math\n+\n x=1\n print(x, y)\n"
    )
    assert report["changes"] == [
        {"rule_id": "DA1101", "message": "Redundant import: 'math' is there already", "line": 1}
    ]
    assert report["lint_before"] == prepared.lint_report
    assert [entry["rule_id"] for entry in report["lint_before"]["issues"]] == ["DA1001", "DA1101", "DA1002"]
    assert [entry["rule_id"] for entry in report["lint_after"]["issues"]] == ["DA1002"]


def test_the_diff_is_what_difflib_makes() -> None:
    lines = [f"x{number} = 1" for number in range(40)]
    for number in (0, 3, 12, 20, 21, 39):
        lines[number] = f"m.sqrt = {number}"
    prepared = look("\n".join(lines) + "\n", m=math)
    assert prepared.autofix_report is not None
    expected = difflib.unified_diff(
        lines, prepared.code.splitlines(), fromfile="before.py", tofile="after.py", lineterm=""
    )
    assert prepared.autofix_report["diff"].splitlines() == list(expected)


def test_without_autofix_nothing_is_changed() -> None:
    assert look("import math", autofix=False, math=math).code == "import math"
    assert look("import math", autofix=False, math=math).autofix_report is None
    assert look("random.seed = 3", autofix=False, random=random).refused is not None


@pytest.mark.parametrize(
    ("code", "after", "rules"),
    [
        ("random.choice = ['é', 'b']  # é", "random.choice(['é', 'b'])  # é", ["DA2001"]),
        ("é = 'é'; random.seed=é; é", "é = 'é'; random.seed(é); é", ["DA2001"]),
        (
            "if 1:\n    random.seed = (\n        3\n    )",
            "if 1:\n    random.seed((\n        3\n    ))",
            ["DA2001"],
        ),
        ("m.sqrt = 16", "m.sqrt(16)", ["DA2001"]),
        ("x = m.sqrt[16]; y = 'é'", "x = m.sqrt(16); y = 'é'", ["DA2002"]),
        ("'é' + m.hypot[3, m.sqrt [16]]", "'é' + m.hypot(3, m.sqrt (16))", ["DA2002", "DA2002"]),
        ("m.hypot = 3, m.sqrt[16]", "m.hypot(3, m.sqrt(16))", ["DA2001", "DA2002"]),
        ("int['3']", "int('3')", ["DA2003"]),
        ("if 1:\n    float[x]", "if 1:\n    float(x)", ["DA2003"]),
        ("import math as m\nm.sqrt = 4", "\nm.sqrt(4)", ["DA1101", "DA2001"]),
        ("import math as m  # why\nif 1:\n  m.pi", "# why\nif 1:\n  m.pi", ["DA1101"]),
        ("\n  import math as m\n  m.pi", "\n  \n  m.pi", ["DA1101"]),
        ("%matplotlib inline\nm.sqrt = 4", "%matplotlib inline\nm.sqrt(4)", ["DA2001"]),
        (">>> m.sqrt = 4\n>>> m.pi", ">>> m.sqrt(4)\n>>> m.pi", ["DA2001"]),
        ("x = 1\r\nm.sqrt = 4\r\ny = 2", "x = 1\r\nm.sqrt(4)\r\ny = 2", ["DA2001"]),
    ],
)
def test_what_is_fixed_and_that_all_other_text_stays(code: str, after: str, rules: list[str]) -> None:
    assert fixed(code, m=math, random=random, x="1") == (after, rules)


@pytest.mark.parametrize(
    "code",
    [
        # Functions in the place of functions are put there on purpose.
        "m.sqrt = abs",
        "m.sqrt = lambda x: x",
        "def fake(x): return x\nm.sqrt = fake",
        "from mine import fake\nm.sqrt = fake",
        "m.sqrt = m.cbrt",
        "m.sqrt = None",
        "m.sqrt = make()",
        # Not calls at all.
        "m.pi = 3",
        "m.new = 3",
        "m.sqrt[1:2]",
        "m.sqrt[1] = 2",
        "x = items[3]",
        "x: m.sqrt[3] = 1",
        "typing.List[int]; typing.Optional[int]; collections.deque[int]",
        "print(f'{m.sqrt[3]}')",
        "a = m.sqrt = 3",
        "m = Other()\nm.sqrt = 3",
        "import other as m\nm.sqrt[3]",
        "list[int]",
        "int[1:2]",
        # A repair that would not parse.
        "(m.sqrt) = 3",
        "m.sqrt \\\n = 3",
    ],
)
def test_what_is_left_as_it_is(code: str) -> None:
    assert fixed(code, m=math, typing=typing, collections=collections) == (code, [])


def test_a_function_assigned_over_a_function_is_refused_not_called() -> None:
    plt = types.ModuleType("plt")
    vars(plt).update(show=lambda: None, title=print)
    prepared = look("plt.show = print", plt=plt)
    assert prepared.refused is not None
    assert prepared.autofix_report is None
    assert fixed("plt.title = name", plt=plt) == ("plt.title(name)", ["DA2001"])


def test_a_cell_with_a_second_mistake_is_refused_as_it_was_written() -> None:
    prepared = look("random.seed = 3\no = random.seed = 4", random=random)
    assert prepared.refused is not None
    assert prepared.refused["line"] == 2
    assert prepared.code.startswith("random.seed = 3")
    assert prepared.autofix_report is None


def test_no_attribute_of_a_module_is_computed() -> None:
    lazy = Lazy("plotly.express")
    assert fixed("px.bar[3]\npx.scatter\nx = px.bar", px=lazy)[1] == []
