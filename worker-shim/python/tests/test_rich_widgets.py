"""Widgets of ipywidgets, as text."""

from __future__ import annotations

import pytest

from .harness import Output, Worker

NOTE = "  (shown as text: widgets have no live front end here)"
IMPORT = "import ipywidgets as w\nfrom IPython.display import clear_output, display\n"


def text(shown: Output) -> str:
    """A widget's display; it has no other part."""
    assert shown.mimes == ["text/plain"]
    return shown.part("text/plain").decode()


@pytest.mark.parametrize(
    ("widget", "said"),
    [
        ("IntSlider(value=3, description='n')", "IntSlider n: 3 (0 to 100)"),
        ("FloatRangeSlider(value=(2, 5))", "FloatRangeSlider: (2.0, 5.0) (0.0 to 100.0)"),
        ("Dropdown(options=[('one', 1), ('two', 2)], value=2)", "Dropdown: two (of one, two)"),
        ("SelectMultiple(options='abc', value=('a', 'b'))", "SelectMultiple: ('a', 'b') (of a, b, c)"),
        ("Checkbox(value=True, description='on')", "Checkbox on: True"),
        ("Text('hello')", "Text: hello"),
        ("Password(value='secret')", "Password: ••••••"),
        ("HTML('<b>x</b>')", "HTML: <b>x</b>"),
        ("DatePicker()", "DatePicker: none"),
        ("Image(value=b'abc')", "Image: 3 bytes"),
        ("Button(description='go')", "Button go"),
        ("Valid(value=True)", "Valid: True"),
    ],
)
def test_a_widget_says_what_it_is_and_how_it_stands(shared: Worker, widget: str, said: str) -> None:
    assert text(shared.run(f"{IMPORT}w.{widget}").only("result")) == said + NOTE
    assert text(shared.run(f"{IMPORT}display(w.{widget})").only("display")) == said + NOTE


def test_what_is_within_a_widget_is_said_below_it(shared: Worker) -> None:
    result = shared.run(f"{IMPORT}w.VBox([w.HBox([w.Label('a'), w.Label('b')]), w.IntText(4)])")
    assert text(result.only("result")) == (f"VBox{NOTE}\n  HBox\n    Label: a\n    Label: b\n  IntText: 4")


def test_a_widget_with_pages_names_them(shared: Worker) -> None:
    result = shared.run(f"{IMPORT}w.Tab([w.Label('a'), w.Label('b')], titles=['one', 'two'])")
    assert text(result.only("result")) == f"Tab: one, two{NOTE}\n  Label: a\n  Label: b"


def test_a_widget_of_which_nothing_is_known_is_its_repr(shared: Worker) -> None:
    result = shared.run(
        f"{IMPORT}from traitlets import Int, Unicode\nclass Map(w.DOMWidget):\n"
        "    _view_name = Unicode('View').tag(sync=True)\n    zoom = Int().tag(sync=True)\nMap(zoom=3)"
    )
    assert text(result.only("result")) == f"Map(zoom=3){NOTE}"


def test_a_shown_widget_follows_what_code_does_to_it(worker: Worker) -> None:
    result = worker.run(
        f"{IMPORT}label, slider = w.Label('a'), w.IntSlider(value=1)\ndisplay(w.HBox([label, slider]))\n"
        "slider.value = 7\nlabel.value = 'b'\nprint('end')"
    )
    displays = [output for output in result.outputs if output.kind == "display"]
    assert [output.body["update"] for output in displays] == [False, *[True] * (len(displays) - 1)]
    assert len({output.body["display_id"] for output in displays}) == 1
    assert text(displays[-1]).splitlines()[1:] == ["  Label: b", "  IntSlider: 7 (0 to 100)"]
    # In a later cell too.
    assert "IntSlider: 8" in text(worker.run("slider.value = 8").only("display"))
    assert text(worker.run("_ = w.Widget.close_all()").outputs[-1]) == ""


def test_a_widget_that_is_replaced_under_its_id_is_followed_no_more(worker: Worker) -> None:
    result = worker.run(
        f"{IMPORT}slider = w.IntSlider(value=1)\nhandle = display(slider, display_id='mine')\n"
        "slider.value = 2\nhandle.update('other')\nslider.value = 3"
    )
    assert {output.body["display_id"] for output in result.outputs} == {"mine"}
    assert [text(output).partition(NOTE)[0] for output in result.outputs] == [
        "IntSlider: 1 (0 to 100)",
        "IntSlider: 2 (0 to 100)",
        "'other'",
    ]


def test_observers_run_when_code_sets_a_value(shared: Worker) -> None:
    result = shared.run(
        f"{IMPORT}slider = w.IntSlider()\n"
        "slider.observe(lambda change: print(change['new']), 'value')\nslider.value = 7"
    )
    assert result.shape == [("stdout", "7\n")]


def test_interact_calls_its_function_once_and_takes_nothing_back(worker: Worker) -> None:
    result = worker.run(
        f"{IMPORT}print('before')\n@w.interact(x=(0, 5))\ndef double(x=2):\n    print('twice', 2 * x)"
    )
    assert [kind for kind, _ in result.shape] == ["stdout", "display"]
    assert result.stream("stdout") == "before\ntwice 4\n"
    assert text(result.only("display")).splitlines()[:2] == [
        f"interactive{NOTE}",
        "  IntSlider x: 2 (0 to 5)",
    ]


def test_what_is_written_within_an_output_widget_is_shown_there(worker: Worker) -> None:
    result = worker.run(
        f"{IMPORT}out = w.Output()\nprint('before')\n"
        "with out:\n    print('in')\n    clear_output(wait=True)\n    display(1)\n"
        "out.clear_output()\nwith out:\n    1/0\nprint('after')"
    )
    assert result.shape == [
        ("stdout", "before\nin\n"),
        ("display", "1"),
        ("error", "ZeroDivisionError"),
        ("stdout", "after\n"),
    ]
    # Outside of it, it is the cell's again.
    assert worker.run("clear_output()").only("clear_output").body == {"wait": False}


def test_what_is_appended_to_an_output_widget_is_in_its_text(worker: Worker) -> None:
    result = worker.run(
        f"{IMPORT}out = w.Output()\nout.append_stdout('one\\n')\nout.append_display_data(w.IntSlider)\nout"
    )
    first, *rest = text(result.only("result")).splitlines()
    assert first == f"Output{NOTE}"
    assert rest == ["  one", "  ipywidgets.widgets.widget_int.IntSlider"]


def test_a_widget_that_cannot_be_described_costs_nothing_but_itself(worker: Worker) -> None:
    result = worker.run(
        f"{IMPORT}class Odd(w.Label):\n    @property\n    def model_id(self): return self.comm.comm_id\n"
        "    description = property(lambda self: 1/0)\ndisplay(Odd('x'))\nprint('after')"
    )
    assert result.end == "ok"
    assert text(result.only("display")).endswith(NOTE)


def test_a_view_of_a_widget_that_is_not_here_is_text(shared: Worker) -> None:
    result = shared.run(
        "view = {'application/vnd.jupyter.widget-view+json': {'model_id': 'none'}}\n"
        "display({**view, 'text/plain': 'Thing()'}, raw=True)"
    )
    assert text(result.only("display")) == f"Thing(){NOTE}"


def test_widgets_are_not_imported_for_who_does_not_use_them(worker: Worker) -> None:
    names = "('ipywidgets', 'comm', 'tqdm', 'PIL', 'bokeh', 'plotly')"
    code = f"import sys\n[name for name in {names} if name in sys.modules]"
    assert worker.run(code).shape == [("result", "[]")]
