"""Charts that a browser draws: Plotly, Altair, Bokeh."""

from __future__ import annotations

import json

import pytest

from .harness import Worker

PLOTLY = "application/vnd.plotly.v1+json"
BAR = "import plotly.graph_objects as go\nfigure = go.Figure(go.Bar(y=[1, 2]))\n"
CHART = (
    "import altair as alt, pandas as pd\n"
    "chart = alt.Chart(pd.DataFrame({'a': [1, 2], 'b': [3, 4]})).mark_bar().encode(x='a', y='b')\n"
)
LINE = "from bokeh.plotting import figure, show\nplot = figure(width=200)\nplot.line([1, 2], [3, 4])\n"
# bokeh.io.notebook.
LOAD, EXEC = "application/vnd.bokehjs_load.v0+json", "application/vnd.bokehjs_exec.v0+json"


@pytest.mark.parametrize("how", ["figure.show()", "display(figure)", "figure"])
def test_a_plotly_figure_is_data_however_it_is_shown(shared: Worker, how: str) -> None:
    shown = shared.run(BAR + how).only("display")
    assert shown.mimes == [PLOTLY]
    assert json.loads(shown.part(PLOTLY))["data"][0]["type"] == "bar"
    # And not its library with it.
    assert len(shown.payload) < 20_000


def test_plotly_does_not_miss_nbformat(worker: Worker) -> None:
    hide = "import sys\nsys.modules['nbformat'] = None\n"
    assert worker.run(f"{hide}{BAR}figure.show()").only("display").mimes == [PLOTLY]


@pytest.mark.parametrize("how", ["chart", "display(chart)", "chart.show()"])
def test_an_altair_chart_is_its_page(shared: Worker, how: str) -> None:
    (shown,) = shared.run(CHART + how).outputs
    assert set(shown.mimes) == {"text/plain", "text/html"}
    html = shown.part("text/html").decode()
    assert "vegaEmbed" in html
    assert '"mark": {"type": "bar"}' in html


def test_an_altair_chart_is_data_where_that_is_asked_for(worker: Worker) -> None:
    shown = worker.run(f"{CHART}alt.renderers.enable('mimetype')\nchart").only("result")
    (mime,) = (mime for mime in shown.mimes if mime.startswith("application/vnd.vegalite."))
    chart = json.loads(shown.part(mime))
    assert chart["mark"] == {"type": "bar"}
    assert next(iter(chart["datasets"].values())) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]


def test_a_chart_that_altair_refuses_is_an_error_and_its_text(shared: Worker) -> None:
    result = shared.run(f"{CHART}alt.Chart(pd.DataFrame({{'a': range(6000)}})).mark_bar().encode(x='a')")
    assert result.shape == [("error", "MaxRowsError"), ("result", "alt.Chart(...)")]


def test_bokeh_loads_its_library_and_then_draws(worker: Worker) -> None:
    result = worker.run(
        f"from bokeh.io import output_notebook\noutput_notebook(hide_banner=True)\n{LINE}show(plot)"
    )
    assert [set(output.mimes) for output in result.outputs] == [
        {"application/javascript", LOAD},
        {"text/html"},
        {"application/javascript", EXEC},
    ]
    load, place, draw = result.outputs
    assert json.loads(load.part(LOAD)).startswith("'use strict';")
    assert b"<div id=" in place.part("text/html")
    assert b'"Line"' in draw.part("application/javascript")
    assert set(draw.metadata) == {EXEC}


def test_a_change_that_bokeh_pushes_is_said_to_be_unseen(worker: Worker) -> None:
    result = worker.run(
        "from bokeh.io import output_notebook, push_notebook\noutput_notebook(hide_banner=True)\n"
        f"{LINE}handle = show(plot, notebook_handle=True)\n"
        "for title in 'ab':\n    plot.title.text = title\n    push_notebook(handle=handle)"
    )
    assert result.end == "ok"
    assert [kind for kind, _ in result.shape] == ["display", "display", "display", "notice"]
    assert "call show() again" in result.only("notice").body["text"]
