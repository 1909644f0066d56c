"""The five checks of printed text and tables: what they say, and what they do not fall for."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cellblock._service.statistics import warnings_of
from cellblock._service.stdout_tables import parse

AT_BOUNDS = (
    "⚠️ STATISTICAL: Parameter(s) may be at optimizer bounds - results unreliable."
    " Consider different initial values or model structure."
)


# Ten times what it takes; what tries all ways to match takes hours.
FAR_TOO_LONG = 5.0


def interval(lower: float, upper: float) -> str:
    return (
        f"🚨 CRITICAL: Confidence interval [{lower}, {upper}] includes impossible negative values for a"
        " positive parameter. This indicates severe model misspecification or inappropriate methodology."
    )


def variation(value: str) -> str:
    return (
        f"⚠️ STATISTICAL: %CV of {value}% indicates very poor parameter precision"
        " (typically %CV < 50% is acceptable). Consider more data or simpler model."
    )


def imprecise(name: str, value: str) -> str:
    return (
        f"⚠️ STATISTICAL: {name} has %CV = {value}% (>100%) - poor parameter precision."
        " Consider more data or simpler model."
    )


def unidentifiable(name: str, value: str) -> str:
    return (
        f"🚨 CRITICAL: {name} has %CV = {value}% - parameter is essentially unidentifiable."
        " Model cannot be reliably estimated from this data."
    )


def at_bound(name: str, value: object) -> str:
    return (
        f"⚠️ STATISTICAL: {name} = {value} appears to be at optimizer bounds. Parameter estimates at bounds"
        " are unreliable - consider different initial values or bounds."
    )


def table(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"columns": list(rows[0]), "data": list(rows), **more}


def test_the_texts_of_the_checks_of_printed_text() -> None:
    text = "CL hit lower bound\nClearance 95% CI: -0.5 to 1.2\n%CV: 200\n"
    assert warnings_of(text, []) == [AT_BOUNDS, interval(-0.5, 1.2), variation("200.0")]


@pytest.mark.parametrize(
    "text",
    [
        "at bound",
        "Vmax reached upper bound.",
        "Hitting bounds",
        "it did not converge, CL at lower bound",
        "No warnings. CL at bounds",
    ],
)
def test_bounds_in_print(text: str) -> None:
    assert warnings_of(text, []) == [AT_BOUNDS]


@pytest.mark.parametrize(
    "text",
    [
        "these are great bounds",
        "what boundaries",
        "look at boundless skies",
        "at the edge\nbounds",
        "No parameters hit lower bound",
        "not at bound",
        "none of the parameters reached upper bound",
        "hat bound",
        "bound at",
    ],
)
def test_what_only_sounds_like_bounds(text: str) -> None:
    assert warnings_of(text, []) == []


@pytest.mark.parametrize(
    ("text", "lower", "upper"),
    [
        ("CL 95% CI: [-0.5 to 1.2]", -0.5, 1.2),
        ("k_el (95% CI: -1, to 3)", -1.0, 3.0),
        ("Volume 95% CI: [-0.5, 1.2]", -0.5, 1.2),
        ("95% CI -2e-3 to 1.2L/h (rate)", -0.002, 1.2),
        ("Rate constant:\n  95% CI: -0.5 to 1.2.", -0.5, 1.2),
        ("slope 95% CI: -3 to 3\nVd 95% CI: -0.5 to 1.2\nCL 95% CI: -9 to 9", -0.5, 1.2),
    ],
)
def test_intervals_of_positive_parameters(text: str, lower: float, upper: float) -> None:
    assert warnings_of(text, []) == [interval(lower, upper)]


@pytest.mark.parametrize(
    "text",
    [
        "Clearance 95% CI: 0.5 to 1.2",
        "Slope 95% CI: -0.5 to 1.2",
        "Clearance: 3\nSlope 95% CI: -0.5 to 1.2",
        "Difference in clearance 95% CI: -0.5 to 1.2",
        "Change in rate, 95% CI: [-0.5, 1.2]",
        "strategy 95% CI: -0.5 to 1.2",
        "Clearance 95% CI: -1,200 to 3,400",
        "Clearance 95% CI: -.- to 1",
        "Clearance 195% CI: -0.5 to 1.2",
    ],
)
def test_intervals_that_may_be_negative(text: str) -> None:
    assert warnings_of(text, []) == []


def test_variation_in_print_is_told_once_per_value() -> None:
    text = "%CV: 200\nCL %CV 151.26%\n%cv = 200.0\n%CV: 150\n%CV 2024-01-01\n"
    assert warnings_of(text, []) == [variation("200.0"), variation("151.3")]
    # The header of a printed table, and the index of its first row.
    assert warnings_of("       %CV\n200    3.0\n", []) == []


@pytest.mark.parametrize(
    "column", ["%CV", "cv", "CV", "CV%", "CV (%)", "% CV", "IIV %CV", "%CV (IIV)", "Coefficient of Variation"]
)
def test_variation_in_a_table(column: str) -> None:
    rows = [
        {"Parameter": name, "Estimate": 3.5, column: value}
        for name, value in {
            "CL": 150.25,
            "V": 1_200,
            "ka": 99.9,
            "F": None,
            "D": "Infinity",
            "T": True,
        }.items()
    ]
    assert warnings_of("", [table(*rows)]) == [imprecise("CL", "150.2"), unidentifiable("V", "1200.0")]


@pytest.mark.parametrize("column", ["Coefficient", "coefficients", "cvs", "cv_score", "%cvx", "recv", "CVI"])
def test_other_columns_are_no_variation(column: str) -> None:
    assert warnings_of("", [table({"Parameter": "b0", column: 250.0})]) == []


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"%CV": 200.0, "Param": "CL"}, "CL"),
        ({"%CV": 200.0, "name": 3}, "3"),
        ({"%CV": 200.0, "what": "CL"}, "CL"),
        ({"%CV": 200.0, "n": 3}, "Row 1"),
        ({"%CV": 200.0, "name": "x" * 1_000}, "x" * 200),
    ],
)
def test_what_a_row_is_called(row: dict[str, Any], name: str) -> None:
    assert warnings_of("", [table(row)]) == [imprecise(name, "200.0")]


@pytest.mark.parametrize(
    "column", ["Estimate", "MLE", "Fitted", "final_estimate", "Coefficient", "Estimate (L/h)"]
)
def test_estimates_at_usual_bounds(column: str) -> None:
    values = {"a": 0.0001, "b": 10.0000005, "c": 1_000, "d": 3.2, "e": None, "f": "10", "g": True, "h": 0}
    rows = [{"Parameter": name, column: value} for name, value in values.items()]
    assert warnings_of("", [table(*rows)]) == [
        at_bound("a", 0.0001),
        at_bound("b", 10.0000005),
        at_bound("c", 1_000),
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"Parameter": "CL", "Fitted Value": 10.0},
        {"Parameter": "CL", "n_estimates": 10},
        {"Parameter": "CL", "Estimate count": 10},
        {"Parameter": "CL", "underestimate": 10},
        {"Group": "CL", "Estimate": 10.0},
        {"parameters": "CL", "Estimate": 10.0},
        {"Parameter": "CL", "Estimate": 10.00001},
    ],
)
def test_what_is_no_estimate_at_a_bound(row: dict[str, Any]) -> None:
    assert warnings_of("", [table(row)]) == []


PRINTED = """\
  Parameter    Estimate          %CV
0        CL   10.000000   150.257812
1         V    3.200000  1234.567812
"""


def test_a_table_that_came_three_times_warns_once() -> None:
    rows = [
        {"Parameter": "CL", "Estimate": 10.0000001, "%CV": 150.2578123},
        {"Parameter": "V", "Estimate": 3.2, "%CV": 1234.5678123},
    ]
    [printed] = parse(PRINTED)
    tables = [table(*rows, source="display"), table(*rows, source="variable"), printed]
    expected = [imprecise("CL", "150.3"), at_bound("CL", 10.0000001), unidentifiable("V", "1234.6")]
    assert warnings_of(PRINTED, tables) == expected
    # Another fact about the same parameter.
    assert warnings_of("", [*tables, table({"Parameter": "CL", "%CV": 400.0})]) == [
        *expected,
        imprecise("CL", "400.0"),
    ]


def test_tables_of_any_form_are_survived() -> None:
    strange: list[dict[str, Any]] = [
        {},
        {"columns": None, "data": 3},
        {"columns": ["%CV"], "data": [None, 3, {}, {"%CV": [1]}, {"%CV": float("nan")}, {"%CV": 10**400}]},
        {"columns": [None, 3, True], "data": [{None: 1, 3: 2}]},
        {"type": "json", "content": {"a": 1}},
    ]
    assert warnings_of("", strange) == []


def test_there_is_an_end_to_warnings() -> None:
    rows = [{"Parameter": f"p{number}", "%CV": 200.0} for number in range(1_000)]
    assert len(warnings_of("", [table(*rows)])) == 100


@pytest.mark.parametrize(
    "part",
    [
        *("at ", "at lower ", "no at bound ", "no ", "\n at bound"),
        *(
            "95% CI ",
            "95% CI: 9",
            "95% CI: -1 to 2 ",
            "x\n95% CI: -1 to 2\n",
            "95%CI:[-1,",
            "CL 95% CI: -1 to -",
        ),
        *("%CV ", "%CV: 200 ", " ", "a", "9", "-"),
    ],
)
def test_a_megabyte_of_hostile_text_takes_no_time_worth_speaking_of(part: str) -> None:
    def once(text: str) -> float:
        started = time.process_time()
        warnings_of(text, [])
        return time.process_time() - started

    repeated = part * ((1 << 20) // len(part))
    tail = part + part[-1] * (1 << 20)
    assert min(once(repeated) for _ in range(3)) < FAR_TOO_LONG
    assert min(once(tail) for _ in range(3)) < FAR_TOO_LONG
