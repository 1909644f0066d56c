"""Plotly figures in runs of the service: each of them once."""

from __future__ import annotations

from typing import Any

import pytest

from .harness import Worker
from .service import PLOTLY, Run, Service

MAKE = "import plotly.graph_objects as go\nmake = lambda n: go.Figure(go.Bar(y=[n]))\n"


@pytest.fixture(scope="module")
def service(shared: Worker) -> Service:
    """A worker that the tests of this module share, which has a function `make`."""
    found = Service(shared)
    found.run(MAKE)
    return found


def plots(run: Run) -> list[tuple[Any, Any, Any]]:
    """(name, source, label) of the figures."""
    return [(plot["name"], plot["source"], plot["label"]) for plot in run.of("plotly")]


def auto(*names: str) -> list[tuple[Any, Any, Any]]:
    """Figures that nobody displayed."""
    return [(name, "auto-captured", None) for name in names]


def test_a_variable_is_captured_when_it_is_new(service: Service) -> None:
    run = service.run("fig = make(1)")
    assert plots(run) == auto("fig")
    assert run.only("plotly")["figure"]["data"][0]["y"] == [1]
    assert service.run("x = 1").shown == []
    assert plots(service.run("fig = make(2)")) == auto("fig")
    assert service.run("alias = fig\nfig.update_layout(title='t')").shown == []


def test_show_shows_once_and_never_again(service: Service) -> None:
    assert plots(service.run("fig = make(3)\nfig.show()")) == auto("fig")
    assert service.run("x = 1").shown == []
    assert plots(service.run("import plotly.io as pio\npio.show(fig)\nfig.show()")) == auto("fig")


def test_each_figure_of_a_loop_or_a_function_is_shown(service: Service) -> None:
    run = service.run(
        "for i in range(3): make(i).show()\ndef shows():\n    inner = make(9)\n    inner.show()\nshows()"
    )
    assert plots(run) == auto("figure", "figure", "figure", "figure")
    assert [plot["figure"]["data"][0]["y"] for plot in run.of("plotly")] == [[0], [1], [2], [9]]


def test_figures_in_containers_are_found_by_their_place(service: Service) -> None:
    run = service.run("figs = [make(1), {'k': (make(2),)}]\n_hidden = make(3)")
    assert plots(run) == auto("_hidden", "figs[0]", "figs[1]['k'][0]")
    assert service.run("figs.append(figs[0])").shown == []
    assert plots(service.run("figs.append(make(4))")) == auto("figs[3]")


def test_a_displayed_figure_carries_its_label_and_makes_no_table(service: Service) -> None:
    run = service.run("fig = make(5)\ndisplay(fig, 'Figure 1: E')\ndisplay(make(6))")
    first, second = plots(run)
    assert first == ("fig", "display", "Figure 1: E")
    assert (second[0], second[1], second[2].split()[0]) == ("figure", "display", "Figure")
    assert run.kinds == ["plotly", "plotly"]


def test_a_label_that_comes_after_show_is_an_update(service: Service) -> None:
    run = service.run("fig = make(7)\nfig.show()\ndisplay(fig, 'L')\nfig.show()\ndisplay(fig, 'L')")
    assert plots(run) == [*auto("fig"), ("fig", "display", "L")]
    first, second = (shown.output.body for shown in run.shown)
    assert first["display_id"] == second["display_id"]
    assert (first["update"], second["update"]) == (False, True)


def test_a_changed_figure_may_be_shown_again(service: Service) -> None:
    run = service.run("fig = make(8)\nfig.show()\n_ = fig.update_layout(title='t')\nfig.show()")
    assert len(run.shown) == 2
    assert not any(shown.output.body["update"] for shown in run.shown)


def test_a_figure_is_delivered_as_plotly_writes_it(service: Service) -> None:
    run = service.run("fig = make(1)\n_ = fig.update_layout(width=321, height=123)\nprint(fig.to_json())")
    assert run.shown[0].output.part(PLOTLY).decode() == run.stdout.strip()


def test_a_frame_with_the_words_of_a_figure_is_none(service: Service) -> None:
    assert service.run("df = pd.DataFrame({'data': [1], 'layout': [2]})").kinds == ["table"]


def test_the_result_of_an_expression_is_not_echoed(service: Service) -> None:
    assert service.run("make(1)").shown == []


def test_figures_of_other_code_are_not_captured(service: Service) -> None:
    result = service.worker.run("other = make(1)\nother.show()")
    (shown,) = [output for output in result.outputs if output.kind == "display"]
    assert shown.body["bundle"]["metadata"] is None
    assert service.run("x = 1").shown == []
    assert service.run("again = other").shown == []


def test_shown_before_an_error_it_is_kept(service: Service) -> None:
    run = service.try_("make(1).show()\nleft = make(2)\n1/0")
    assert plots(run) == auto("figure", "left")


def test_known_figures_are_not_kept_alive(service: Service) -> None:
    run = service.run("import gc, weakref\nfig = make(1)\nref = weakref.ref(fig)\nfig.show()")
    assert len(run.shown) == 1
    assert service.run("del fig\n_ = gc.collect()\nprint(ref())").stdout == "None\n"


def test_large_containers_cost_little(service: Service) -> None:
    service.run(
        "import time\nbig = [{'a': [1]} for _ in range(100_000)]\nendless = []; endless.append(endless)"
    )
    run = service.run("last = [make(1)]")
    assert plots(run) == auto("last[0]")
    service.run("del big")


def test_a_figure_given_as_a_dictionary_is_shown_whole(service: Service) -> None:
    run = service.run(
        "import plotly.io as pio\npio.show({'data': [{'type': 'bar', 'y': list(range(5000))}]})"
    )
    assert len(run.only("plotly")["figure"]["data"][0]["y"]) == 5000
