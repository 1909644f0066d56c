"""`display` in runs of the service: what becomes of an object, its label, and when."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .harness import Worker
from .service import Service


@pytest.fixture(scope="module")
def service(shared: Worker) -> Service:
    """A worker that the tests of this module share."""
    return Service(shared)


@pytest.fixture
def fresh(worker: Worker) -> Service:
    """A worker of this test's own."""
    return Service(worker)


@pytest.mark.parametrize(
    ("expression", "kind", "content"),
    [
        ("{'a': np.int64(1), 'b': float('nan')}", "json", '{\n  "a": 1,\n  "b": null\n}'),
        ("[1, 'é']", "json", '[\n  1,\n  "é"\n]'),
        ("(1, object)", "json", "[\n  1,\n  \"<class 'object'>\"\n]"),
        ("42", "text", "42"),
        ("'text'", "text", "'text'"),
        ("None", "text", "None"),
        ("HTML('<b>h</b>')", "html", "<b>h</b>"),
        ("Markdown('# h')", "text", "# h"),
        ("Latex('$x$')", "text", "$x$"),
        ("SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')", "html", None),
        ("JSON({'a': 1})", "json", '{"a": 1}'),
        ("pd.DataFrame({'a': [1]}).style", "html", None),
        ("np.zeros((2, 2, 2))", "text", None),
        ("Estimator()", "model", None),
    ],
)
def test_an_object_is_shown_by_its_richest_form(
    service: Service, expression: str, kind: str, content: str | None
) -> None:
    service.run(
        "from IPython.display import HTML, JSON, SVG, Latex, Markdown\n"
        "class Estimator:\n"
        "    def fit(self): pass\n"
        "    def predict(self): pass\n"
        "    def get_params(self): return {'depth': np.int64(3)}"
    )
    shown = service.run(f"display({expression}, 'L')").only(kind)
    assert (shown["label"], shown["source"]) == ("L", "display")
    if content is not None:
        assert shown["content"] == content


@pytest.mark.parametrize(
    ("expression", "columns", "rows"),
    [
        ("pd.Series([1, 2], name='s')", ["index", "s"], [[0, 1], [1, 2]]),
        ("pd.Series([1], index=['i'])", ["index", "Value"], [["i", 1]]),
        ("pd.Series([1], name='index')", ["level_0", "index"], [[0, 1]]),
        ("np.arange(2)", ["index", "value"], [[0, 0], [1, 1]]),
        ("np.ones((1, 2))", [0, 1], [[1.0, 1.0]]),
        ("pd.Index(['x'])", ["index", "value"], [[0, "x"]]),
        ("pd.MultiIndex.from_tuples([(1, 2)])", ["index", "value"], [[0, [1, 2]]]),
    ],
)
def test_what_is_tabular_is_a_table(service: Service, expression: str, columns: Any, rows: Any) -> None:
    table = service.run(f"display({expression})").only("table")
    assert (table["columns"], table["data"]) == (columns, rows)
    assert (table["name"], table["source"], table["type"]) == ("displayed_result", "display", "table")


def test_long_lists_and_series_are_tables_of_their_true_length(service: Service) -> None:
    for expression in ("list(range(5000))", "pd.Series(range(5000))", "np.arange(5000)"):
        table = service.run(f"display({expression})").only("table")
        assert table["shape"] == [5000, 2]
        assert (len(table["data"]), table["truncated"]) == (1000, True)
    memory = service.run("display(pd.Series(np.arange(5000), name='s'))").only("table")["info"][
        "memory_usage"
    ]
    assert memory["s"] == 40_000


def test_an_object_that_fails_to_show_itself_never_fails_the_cell(service: Service) -> None:
    run = service.run(
        "class Bad:\n    def __repr__(self): raise Exception('no')\n"
        "class Worse:\n    def _ipython_display_(self): raise Exception('never')\n"
        "class Html:\n    def _repr_html_(self): raise Exception('no html')\n"
        "    def __repr__(self): return 'plain'\n"
        "display(Bad())\ndisplay(Bad(), 'L')\ndisplay(Worse())\ndisplay(Html())\nprint('on')"
    )
    assert [t["content"] for t in run.of("text")] == [
        "Error displaying object: no\n\nObject type: Bad",
        "Error displaying object: no\n\nObject type: Bad",
        "Error displaying object: never\n\nObject type: Worse",
        "plain",
    ]
    assert [t["label"] for t in run.of("text")] == ["Error", "L", "Error", "Data"]
    assert run.stdout.endswith("on\n")
    assert [output.kind for output in run.result.outputs if output.kind == "error"] == []


def test_an_object_that_claims_every_attribute_is_shown_as_text(service: Service) -> None:
    run = service.run("from unittest.mock import MagicMock\ndisplay(MagicMock(name='m'), 'L')")
    assert run.only("text")["content"].startswith("<MagicMock")


def test_a_class_that_answers_nothing_costs_its_own_display_alone(service: Service) -> None:
    run = service.run(
        "class Meta(type):\n"
        "    def __getattribute__(self, name): raise RuntimeError('meta')\n"
        "class Mute(metaclass=Meta): pass\n"
        "display(Mute(), 'L')\ndisplay([Mute()])\nprint('on')"
    )
    assert run.only("text")["content"] == "Error displaying object: meta\n\nObject type: Mute"
    assert "Mute object" in run.only("json")["content"]
    assert run.stdout.endswith("on\n")


def test_a_long_text_is_shown_by_its_ends(service: Service) -> None:
    content = service.run("display('x' * 3000)").only("text")["content"]
    assert "\n\n... (1002 chars omitted) ...\n\n" in content
    assert len(content) < 2100


# Labels and preview.


def test_default_labels_count_per_notebook(fresh: Service) -> None:
    first = fresh.run(
        "display(pd.DataFrame({'a': [1]}))\ndisplay({'a': 1})\ndisplay(pd.DataFrame({'a': [1]}), 'Mine')"
    )
    second = fresh.run("display(pd.Series([1]))\ndisplay(5)")
    labels = [shown.label for run in (first, second) for shown in run.shown]
    assert labels == ["Table 1", "Data", "Mine", "Table 2", "Data"]


def test_a_label_is_a_text_of_bounded_length(service: Service) -> None:
    run = service.run(
        "display(1, label=5)\ndisplay(1, label=pd.Timestamp('2024-01-01'))\ndisplay(1, 'x' * 1_000_000)"
    )
    first, second, third = [shown.label for shown in run.shown]
    assert (first, second) == ("5", "2024-01-01 00:00:00")
    assert third.startswith("xxx")
    assert len(third) < 11_000


def test_a_preview_is_printed_before_what_it_previews(service: Service) -> None:
    run = service.run(
        "f = pd.DataFrame({'a': [1]})\ndisplay(f, 'T')\ndisplay(f)\ndisplay(7)\ndisplay(7, 'S')\ndel f"
    )
    assert run.stdout == "\nT:\n   a\n0  1\n\n[Will be auto-numbered]:\n   a\n0  1\n\nS:\n7\n"
    kinds = [output.kind for output in run.result.outputs]
    assert kinds == ["display", "stdout", "display", "stdout", "display", "display", "stdout", "display"]


def test_the_object_is_returned_and_listed(service: Service) -> None:
    run = service.run(
        "x = [1]\nprint(display(x) is x, len(display.results), display.results[0]['object'] is x)"
    )
    assert run.stdout == "True 1 True\n"
    assert service.run("print(len(display.results))").stdout == "0\n"


def test_an_object_is_shown_as_it_was_when_it_was_displayed(service: Service) -> None:
    run = service.run("f = pd.DataFrame({'a': [1]})\ndisplay(f)\nf['a'] = 2\ndisplay(f)")
    assert [t["data"] for t in run.of("table")] == [[[1]], [[2]], [[2]]]


# IPython's own display.


def test_ipythons_display_is_captured_like_the_helper(service: Service) -> None:
    run = service.run(
        "from IPython.display import display, HTML\n"
        "display(pd.DataFrame({'a': [1]}), 'T')\n"
        "display(HTML('a'), HTML('b'))\ndisplay(HTML('c'), display_id='i')"
    )
    assert run.kinds == ["table", "html", "html", "html"]
    assert run.of("table")[0]["label"] == "T"
    assert run.shown[3].output.body["display_id"] == "i"


def test_a_display_that_was_imported_before_the_service_is_captured(fresh: Service) -> None:
    fresh.worker.run("from IPython.display import display as old")
    assert fresh.run("old(pd.DataFrame({'a': [1]}))").only("table")["source"] == "display"


def test_an_update_keeps_the_label_and_counts_nothing(service: Service) -> None:
    run = service.run(
        "import IPython.display as d\nh = d.display(pd.DataFrame({'a': [1]}), display_id=True)\n"
        "h.update(pd.DataFrame({'a': [2]}))"
    )
    first, second = run.shown
    assert first.label == second.label
    assert first.output.body["display_id"] == second.output.body["display_id"]
    assert (first.output.body["update"], second.output.body["update"]) == (False, True)
    assert second.body["data"] == [[2]]


def test_a_raw_bundle_is_one_entry_with_all_its_parts(service: Service) -> None:
    run = service.run(
        "from IPython.display import publish_display_data\n"
        "publish_display_data({'text/html': '<b>1</b>', 'text/plain': '1'})\n"
        "publish_display_data({'application/javascript': 'x()'})\n"
        "publish_display_data({'application/x-mine': 'm'})"
    )
    assert run.kinds == ["html", "html", "other"]
    assert run.shown[0].output.part("text/plain") == b"1"
    assert run.shown[1].body["content"] == "<script>x()</script>"
    # Nobody knows what they are, so they are not numbered.
    assert [shown.label for shown in run.shown] == [None, None, None]


def test_capture_output_takes_what_is_displayed(service: Service) -> None:
    run = service.run(
        "from IPython.utils.capture import capture_output\n"
        "with capture_output() as kept:\n    display(pd.DataFrame({'a': [1]}), 'T')\n"
        "print(len(kept.outputs))"
    )
    assert (run.stdout, run.shown) == ("1\n", [])
    run = service.run("kept.show()")
    assert run.only("table")["label"] == "T"


def test_pictures_are_images(service: Service) -> None:
    run = service.run(
        "from PIL import Image as P\nimport io\nfrom IPython.display import Image\n"
        "p = P.new('F', (3, 2))\ndisplay(p, 'F')\n"
        "b = io.BytesIO(); P.new('RGB', (4, 2)).save(b, 'JPEG')\ndisplay(Image(b.getvalue()))"
    )
    first, second = run.of("image")
    # Their size is told by the picture itself.
    assert first["label"] == "F"
    assert first["data"].startswith(b"\x89PNG")
    assert (second["source"], run.shown[1].output.mimes) == ("display", ["image/jpeg"])


def test_outside_of_runs_display_is_ipythons(service: Service) -> None:
    result = service.worker.run("display({'a': 1}, 'T')\nfrom IPython.display import display as d\nd(5)")
    assert [o.mimes for o in result.outputs] == [["text/plain"]] * 3
    assert result.stream("stdout") == ""


def test_a_display_of_a_task_of_other_code_is_none_of_the_run(service: Service) -> None:
    result = service.worker.start(
        "import asyncio\nasync def later():\n    await go.wait()\n    display({'late': 1})\n    done.set()\n"
        "go, done = asyncio.Event(), asyncio.Event()\nt = asyncio.create_task(later())"
    )
    service.worker.wait(result)
    run = service.run("go.set()\nawait done.wait()")
    assert run.shown == []
    shown = [o for o in service.worker.outputs if o.execution == result and o.kind == "display"]
    assert [o.mimes for o in shown] == [["text/plain"]]


def test_strict_json_travels(service: Service) -> None:
    run = service.run("display({'a': [float('inf'), 'x\\ud800', 10**30]}, 'J')")
    assert json.loads(run.only("json")["content"]) == {"a": ["Infinity", "x?", 10**30]}


def test_what_is_cleared_away_frees_its_labels(fresh: Service) -> None:
    fresh.run("display(pd.DataFrame({'a': [0]}))")
    run = fresh.run(
        "from IPython.display import clear_output\nfor i in range(3):\n    clear_output(wait=True)\n"
        "    display(pd.DataFrame({'a': [i]}))"
    )
    assert [table["label"] for table in run.of("table")] == ["Table 2"] * 3


def test_what_is_displayed_in_an_objects_place_has_its_label(service: Service) -> None:
    run = service.run(
        "class Proxy:\n    def _ipython_display_(self):\n        from IPython.display import display as d\n"
        "        d(pd.DataFrame({'a': [1]}))\ndisplay(Proxy(), 'P')\ndisplay(Proxy())"
    )
    first, second = run.of("table")
    assert first["label"] == "P"
    assert second["label"].startswith("Table ")


def test_a_widget_is_a_text_that_follows_it(service: Service) -> None:
    run = service.run("import ipywidgets\nw = ipywidgets.IntSlider(value=3)\ndisplay(w, 'W')\nw.value = 5")
    first, second = run.shown
    assert (first.kind, first.label, second.label) == ("text", "W", "W")
    assert (first.output.body["update"], second.output.body["update"]) == (False, True)
    assert second.body["content"].startswith("IntSlider: 5")
