"""Tables and formulas."""

from __future__ import annotations

import pytest

from .harness import Worker


@pytest.mark.parametrize(
    ("code", "cells"),
    [
        ("import pandas as pd\npd.DataFrame({'a': [1, 2]})", "<td>2</td>"),
        (
            "import pandas as pd\npd.DataFrame({'a': [1, 2]}).style.highlight_max()",
            "background-color: yellow",
        ),
        ("import polars as pl\npl.DataFrame({'a': [1, 2]})", "<td>2</td>"),
        ("import polars as pl\npl.Series('a', [1, 2])", "<td>2</td>"),
    ],
)
def test_a_table_is_html_beside_its_text(shared: Worker, code: str, cells: str) -> None:
    shown = shared.run(code).only("result")
    assert set(shown.mimes) == {"text/html", "text/plain"}
    assert cells in shown.part("text/html").decode()


@pytest.mark.parametrize("prepare", ["", "sympy.init_printing()\n"])
def test_an_expression_of_sympy_is_latex(worker: Worker, prepare: str) -> None:
    code = f"import sympy\n{prepare}x = sympy.Symbol('x')\nsympy.Integral(x**2, x)"
    shown = worker.run(code).only("result")
    assert {"text/latex", "text/plain"} <= set(shown.mimes)
    assert r"\int x^{2}\, dx" in shown.part("text/latex").decode()
