"""Tables in printed text. The samples are what pandas printed; trailing spaces are part of them."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from cellblock._service.stdout_tables import parse

SIMPLE = """\
   COL_A  COL_B
0      1      4
1      2      5
2      3      6
"""


# Ten times what it takes; what tries all ways to match takes hours.
FAR_TOO_LONG = 5.0


def only(text: str) -> dict[str, Any]:
    [table] = parse(text)
    json.dumps(table, allow_nan=False)
    return table


def test_a_printed_frame_is_a_table() -> None:
    assert only(SIMPLE) == {
        "name": "Analysis Result 1",
        "shape": [3, 2],
        "columns": ["COL_A", "COL_B"],
        "data": [{"COL_A": 1, "COL_B": 4}, {"COL_A": 2, "COL_B": 5}, {"COL_A": 3, "COL_B": 6}],
        "html": (
            '<table border="1" class="dataframe table table-striped">\n'
            "  <thead>\n"
            '    <tr style="text-align: right;">\n'
            "      <th></th>\n      <th>COL_A</th>\n      <th>COL_B</th>\n"
            "    </tr>\n"
            "  </thead>\n"
            "  <tbody>\n"
            "    <tr>\n      <th>0</th>\n      <td>1</td>\n      <td>4</td>\n    </tr>\n"
            "    <tr>\n      <th>1</th>\n      <td>2</td>\n      <td>5</td>\n    </tr>\n"
            "    <tr>\n      <th>2</th>\n      <td>3</td>\n      <td>6</td>\n    </tr>\n"
            "  </tbody>\n"
            "</table>"
        ),
        "info": {"dtypes": {"COL_A": "int64", "COL_B": "int64"}, "memory_usage": {}},
        "source": "stdout",
    }


def test_text_around_and_between_is_no_part_of_a_table() -> None:
    text = f"Results:\n{SIMPLE}Done 1 2.\n\nAnd again\n{SIMPLE}{SIMPLE}mean: 3.5\nCOL_A: 1, 2, 3\n"
    tables = parse(text)
    assert [table["name"] for table in tables] == [f"Analysis Result {number}" for number in (1, 2, 3)]
    assert all(table["data"] == only(SIMPLE)["data"] for table in tables)
    # Of the same length as the table's lines.
    assert only(f"Some results:..\n{SIMPLE}The end of it.\n")["shape"] == [3, 2]
    assert only(SIMPLE.replace("\n", "\r\n"))["data"] == only(SIMPLE)["data"]
    assert only(SIMPLE.rstrip("\n"))["shape"] == [3, 2]


def test_numbers_dates_truth_and_what_is_missing() -> None:
    table = only("""\
   a longname    f   neg          t      b     e               td cat      per    i
0  1        x  1.5 -1.25 2024-01-01   True  None  0 days 01:00:00   u  2024-01   10
1 -2      y z  NaN -3.00        NaT  False   NaN  3 days 18:00:00   v  2024-02  200
""")
    assert table["columns"] == ["a", "longname", "f", "neg", "t", "b", "e", "td", "cat", "per", "i"]
    assert list(table["data"][0].values()) == [
        1, "x", 1.5, -1.25, "2024-01-01", True, None, "0 days 01:00:00", "u", "2024-01", 10,
    ]  # fmt: skip
    assert list(table["data"][1].values()) == [
        -2, "y z", None, -3.0, None, False, None, "3 days 18:00:00", "v", "2024-02", 200,
    ]  # fmt: skip
    kinds = list(table["info"]["dtypes"].values())
    assert kinds == ["int64", "object", "float64", "float64", "object", "bool", *["object"] * 4, "int64"]


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (
            """\
              a             b    c
0  1.000000e+00  3.500000e+00  inf
1  1.000000e+10  1.000000e-10  1.0
""",
            [{"a": 1.0, "b": 3.5, "c": "Infinity"}, {"a": 1e10, "b": 1e-10, "c": 1.0}],
        ),
        (
            """\
       a    b  c
0   1.00 3.50  x
1 -22.00 4.00  y
""",
            [{"a": 1.0, "b": 3.5, "c": "x"}, {"a": -22.0, "b": 4.0, "c": "y"}],
        ),
        (
            """\
   a b    a
0  1.0  p q
1  2.0  r s
""",
            [{"a b": 1.0, "a": "p q"}, {"a b": 2.0, "a": "r s"}],
        ),
        (
            """\
        a         b
0  [1, 2]  {'x': 1}
1     [3]      None
""",
            [{"a": "[1, 2]", "b": "{'x': 1}"}, {"a": "[3]", "b": None}],
        ),
        (
            """\
      a         c
0     1  1.0+2.0j
1  <NA>  3.0+0.0j
""",
            [{"a": 1, "c": "1.0+2.0j"}, {"a": None, "c": "3.0+0.0j"}],
        ),
        (
            "   a    b\n0  x    1\n1     200\n",
            [{"a": "x", "b": 1}, {"a": "", "b": 200}],
        ),
        (
            """\
   日本  y
0  東京  1
1   x  2
""",
            [{"日本": "東京", "y": 1}, {"日本": "x", "y": 2}],
        ),
        (
            """\
                  n
0  9999999999999999
1                -1
""",
            [{"n": 9_999_999_999_999_999}, {"n": -1}],
        ),
    ],
    ids="scientific format two-words objects nullable empty wide-characters large".split(),
)
def test_cells_of_many_kinds(text: str, data: list[dict[str, Any]]) -> None:
    assert only(text)["data"] == data


@pytest.mark.parametrize(
    ("text", "columns", "first", "label"),
    [
        (
            """\
       COL_A  COL_B
count    3.0    3.0
mean     2.0    5.0
25%      1.5    4.5
""",
            ["COL_A", "COL_B"],
            [3.0, 3.0],
            "count",
        ),
        (
            """\
                     v
2024-01-01 10:00:00  1
2024-01-02 11:30:00  2
""",
            ["v"],
            [1],
            "2024-01-01 10:00:00",
        ),
        (
            """\
                    t  v
0 2024-01-01 10:00:00  1
1 2024-01-02 11:30:00  2
""",
            ["t", "v"],
            ["2024-01-01 10:00:00", 1],
            "0",
        ),
        ("   v\nk   \na  3\nb  4\n", ["v"], [3], "a"),
        ("     v\nk m   \na x  1\n  y  2\nb x  3\n", ["v"], [1], "a x"),
        ("     v\na x  1\n  y  2\nb x  3\n", ["v"], [1], "a x"),
        ("m    x    y\nk          \na  1.0  2.0\nb  3.0  NaN\n", ["x", "y"], [1.0, 2.0], "a"),
        ("m  k    x    y\n0  a  1.0  2.0\n1  b  3.0  NaN\n", ["k", "x", "y"], ["a", 1.0, 2.0], "0"),
        ("     a\n-1   1\n 10  2\n", ["a"], [1], "-1"),
        ("     a\n1    1\n3    2\n2  300\n", ["a"], [1], "1"),
        ("   2019  2020\na     1     3\nb     2     4\n", ["2019", "2020"], [1, 3], "a"),
        ("     0    1\n0  0.5  1.0\n1  2.5  3.0\n", ["0", "1"], [0.5, 1.0], "0"),
        ("   x\n0  1\n", ["x"], [1], "0"),
        ("   x\n0  a\n", ["x"], ["a"], "0"),
    ],
)
def test_the_index_is_in_the_html_only(text: str, columns: list[str], first: list[Any], label: str) -> None:
    table = only(f"before\n{text}after\n")
    assert table["columns"] == columns
    assert list(table["data"][0].values()) == first
    assert f"<th>{label}</th>" in table["html"]


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (
            " COL_A  COL_B\n     1      4\n     2      5\n",
            [{"COL_A": 1, "COL_B": 4}, {"COL_A": 2, "COL_B": 5}],
        ),
        ("name  age\n  Al    3\n Bob   40\n", [{"name": "Al", "age": 3}, {"name": "Bob", "age": 40}]),
        (
            """\
a_long_name a_rather_long_one  age
         Al                 x    3
        Bob                 y   40
""",
            [
                {"a_long_name": "Al", "a_rather_long_one": "x", "age": 3},
                {"a_long_name": "Bob", "a_rather_long_one": "y", "age": 40},
            ],
        ),
        (
            "         d    x\n2024-01-01 -1.5\n2024-01-02  2.0\n",
            [{"d": "2024-01-01", "x": -1.5}, {"d": "2024-01-02", "x": 2.0}],
        ),
        (" a  b\n10  4\n", [{"a": 10, "b": 4}]),
    ],
)
def test_frames_printed_without_their_index(text: str, data: list[dict[str, Any]]) -> None:
    table = only(f"before\n{text}\nafter\n")
    assert table["data"] == data
    assert "<th></th>" not in table["html"]


def test_a_shortened_frame_tells_its_true_size() -> None:
    table = only("""\
           0         1  ...        28        29
0   0.221518  0.527641  ...  0.026254  0.104507
1   0.011931  0.440504  ...  0.195197  0.104507
..       ...       ...  ...       ...       ...
98  0.778765  0.026849  ...  0.537033  0.104507
99  0.920831  0.730977  ...  0.002667  0.104507

[100 rows x 30 columns]
""")
    assert table["shape"] == [100, 30]
    assert (table["truncated"], table["total_rows"], table["total_columns"]) == (True, 100, 30)
    assert table["columns"] == ["0", "1", "28", "29"]
    assert [row["29"] for row in table["data"]] == [0.104507] * 4
    assert "..." not in table["html"]


def test_columns_of_text_are_shortened_by_two_dots() -> None:
    table = only("""\
      a  b     c
r0    0  s  True
r1    1  s  True
..   .. ..   ...
r99  99  s  True

[100 rows x 3 columns]
""")
    assert table["shape"] == [100, 3]
    assert table["data"][-1] == {"a": 99, "b": "s", "c": True}


FOLDED = (
    "      first    second     third  \\\n"
    "0  0.781337  0.239271  0.420770   \n"
    "1  0.124198  0.823082  0.068383   \n"
    "\n"
    "     fourth  ...     sixth  \n"
    "0  0.324852  ...  0.806950  \n"
    "1  0.687749  ...  0.632145  \n"
)


def test_a_folded_frame_is_one_table() -> None:
    table = only(f"before\n{FOLDED}\n[2 rows x 6 columns]\nafter\n")
    assert table["shape"] == [2, 6]
    assert table["columns"] == ["first", "second", "third", "fourth", "sixth"]
    assert list(table["data"][1].values()) == [0.124198, 0.823082, 0.068383, 0.687749, 0.632145]
    whole = only(FOLDED.replace("  ...", ""))
    assert whole["shape"] == [2, 5]
    assert "truncated" not in whole


@pytest.mark.parametrize(
    "text",
    [
        # Not all of it, and nothing says how much.
        FOLDED,
        FOLDED.replace("[2 rows", "[3 rows"),
        # Blocks of different rows, a block that does not follow, the last block alone.
        FOLDED.replace("  ...", "").replace("1  0.687749", "2  0.687749"),
        FOLDED.replace("  ...", "").partition("\n\n")[0],
        FOLDED.replace("  ...", "").partition("\n\n")[2],
    ],
)
def test_a_frame_that_is_not_complete_is_no_table(text: str) -> None:
    assert parse(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n\n",
        "plain text\nand more of it\n",
        "Model summary for the run\n  1 apple\n  2 pears\n",
        "Items:\n  apple  3\n  pears  4\n  plums  5\n",
        "a    1\nb    2\ndtype: int64\n",
        "0    1\n1    2\nName: s, dtype: int64\n",
        "Empty DataFrame\nColumns: [a]\nIndex: []\n",
        "[[1 2 3]\n [4 5 6]\n [7 8 9]]\n",
        "2024-01-01 12:00:00 INFO start\n2024-01-01 12:00:01 INFO ended\n",
        "Epoch   1/100  loss: 1.0000\nEpoch   2/100  loss: 0.5000\n",
        "alpha                        1\nbeta                        22\n",
        "  key: value\nother: thing\n",
        "    admonition = 3\n.. deprecated:: 1.\n",
        "                 Mechelynck)\nSolution:   Add #ifdef. xxx)\n",
        "   a\tb\n0  1\t2\n",
        "  a    b\n---  ---\n  1    4\n",
        "|    |   a |\n|---:|----:|\n|  0 |   1 |\n",
        # Two levels of column names.
        "     v    \n  mean sum\nk         \na  1.5   3\nb  3.0   3\n",
        "     a       b   \n     x  y    x  y\n0    1  2    3  4\n",
        # A column without a name.
        "      y\n0  1  1\n1  2  2\n",
        # Is it one column of two words, or two?
        "   ab cd\n0  xx yy\n1  zz ww\n",
        # A row without a label.
        "   a  b\nk  1  2\n   3  4\n",
        # Only texts, and nothing that tells rows from lines.
        "      x\nrow  foo bar\nrox  foo bar\n",
        "    0.5  0.25\n0   0.5  0.25\n",
        "  3   4\n1 5   6\n",
    ],
)
def test_other_text_is_no_table(text: str) -> None:
    assert parse(text) == []
    assert parse(f"before\n{text}after\n") == []


def test_a_classification_report_is_no_table() -> None:
    report = """\
              precision    recall  f1-score   support

           0       0.30      0.32      0.31       102
           1       0.29      0.25      0.27       106

    accuracy                           0.28       208
   macro avg       0.28      0.28      0.28       208
weighted avg       0.28      0.28      0.28       208
"""
    assert parse(report) == []
    assert parse(report.replace("0.28", "   1")) == []


def test_statistical_summaries_and_info_are_no_tables() -> None:
    summary = (
        f"{'OLS Regression Results':^78}\n"
        + """\
==============================================================================
Dep. Variable:                      y   R-squared:                       0.416
Model:                            OLS   Adj. R-squared:                  0.353
==============================================================================
                 coef    std err          t      P>|t|      [0.025      0.975]
------------------------------------------------------------------------------
const          2.1000      0.380      5.527      0.000       1.343       2.857
x1             0.5000      0.120      4.167      0.000       0.261       0.739
==============================================================================
"""
    )
    info = """\
<class 'pandas.core.frame.DataFrame'>
RangeIndex: 3 entries, 0 to 2
Data columns (total 2 columns):
 #   Column  Non-Null Count  Dtype
---  ------  --------------  -----
 0   COL_A   3 non-null      int64
 1   COL_B   3 non-null      int64
dtypes: int64(2)
memory usage: 176.0 bytes
"""
    assert parse(summary + info) == []


def test_long_frames_are_kept_in_part() -> None:
    rows = "".join(f"{number:<5}  {number:>5}\n" for number in range(20_000))
    table = only(f"           n\n{rows}")
    assert table["shape"] == [20_000, 1]
    assert len(table["data"]) == 1_000
    assert (table["truncated"], table["total_rows"], table["total_columns"]) == (True, 20_000, 1)
    assert table["html"].count("<tr>") == 60


def test_wide_frames_are_kept_in_part() -> None:
    header = " " + "".join(f"  c{number:>03}" for number in range(300))
    row = "".join(f"  {number:>4}" for number in range(300))
    table = only(f"{header}\n0{row}\n")
    assert table["shape"] == [1, 300]
    assert len(table["columns"]) == len(table["data"][0]) == 200
    assert table["truncated"] is True


def test_html_is_escaped() -> None:
    table = only("    <b>\n0  <i>x\n1  <u>y\n")
    assert "<b>" not in table["html"]
    assert "&lt;i&gt;x" in table["html"]


def test_there_is_an_end_to_tables() -> None:
    assert len(parse(SIMPLE * 200)) == 100


# Text that is meant to do harm.


def repeated(part: str) -> str:
    return part * ((1 << 20) // len(part))


@pytest.mark.parametrize(
    "text",
    [
        "x" * (1 << 20),
        " " * (1 << 20),
        "\n" * (1 << 20),
        repeated("   a  b\n0  1  2\n"),
        "   a  b\n" + repeated("0  1  2\n"),
        "   a  b\n" + repeated("0  1  2\n") + "zz 1  2\n",
        repeated("  a  b\n"),
        "  a  b\n" + repeated("  1  2\n") + "  1 2 \n",
        "    a\n" + repeated("b   1\n b  1\n"),
        "".join(" " * indent + "a" * (100 - indent) + "\n" for indent in range(99, 0, -1)) * 10
        + repeated("x" * 99 + "1\n"),
        ("  " + "a  " * 3_000 + "\n0 " + "1  " * 3_000 + "\n") * 50,
        repeated("   a  \\\n0  1   \n\n"),
        repeated("m  x  y\nk      \na  1  2\n"),
        repeated("   a\n   b\n0  1\n"),
        "      a\n" + repeated("a b c 1\nab bc 1\n"),
        repeated("cn  a\n0   1\n"),
    ],
    ids=map(str, range(16)),
)
def test_a_megabyte_of_hostile_text_takes_no_time_worth_speaking_of(text: str) -> None:
    def once() -> float:
        started = time.process_time()
        parse(text)
        return time.process_time() - started

    assert min(once() for _ in range(3)) < FAR_TOO_LONG


def test_no_text_makes_it_raise() -> None:
    samples = [
        SIMPLE,
        FOLDED,
        "m    x    y\nk          \na  1.0  2.0\nb  3.0  NaN\n",
        "name  age\n  Al    3\n",
    ]
    chosen = random.Random(0)
    for _ in range(3_000):
        text = list(chosen.choice(samples) + chosen.choice(samples))
        for _ in range(chosen.randrange(1, 6)):
            at = chosen.randrange(len(text))
            text[at : at + chosen.randrange(3)] = chosen.choice(
                ["", " ", "\n", "  ", "x", "9", ".", "\\", "é"]
            )
        for table in parse("".join(text)):
            json.dumps(table, allow_nan=False)
            assert all(list(row) == list(dict.fromkeys(table["columns"])) for row in table["data"])
