"""Displays, figures and tables; questions of an editor."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .harness import Worker

PNG = b"\x89PNG\r\n\x1a\n"


def test_display_update_and_clear(shared: Worker) -> None:
    result = shared.run(
        "from IPython.display import clear_output, display\n"
        "handle = display('one', display_id='box')\nhandle.update('two')\nclear_output(wait=True)"
    )
    first, second = (o for o in result.outputs if o.kind == "display")
    assert (first.body["display_id"], first.body["update"]) == ("box", False)
    assert (second.body["display_id"], second.body["update"]) == ("box", True)
    assert result.only("clear_output").body == {"wait": True}


def test_parts_keep_their_order_and_their_kind(shared: Worker) -> None:
    result = shared.run(
        "from IPython.display import display\nimport base64\n"
        "display({'text/html': '<b>é</b>', 'application/json': {'a': [1, float('nan')]},\n"
        "         'application/vnd.x+json': [1], 'image/png': base64.b64encode(b'\\x89PNG').decode(),\n"
        "         'image/jpeg': b'\\xff\\xd8', 'image/svg+xml': '<svg/>', 'text/plain': 'p'},\n"
        "        metadata={'image/png': {'width': 3}}, raw=True)"
    )
    shown = result.only("display")
    assert shown.mimes == [
        "text/html",
        "application/json",
        "application/vnd.x+json",
        "image/png",
        "image/jpeg",
        "image/svg+xml",
        "text/plain",
    ]
    assert shown.part("text/html") == "<b>é</b>".encode()
    assert json.loads(shown.part("application/json")) == {"a": [1, None]}
    assert shown.part("image/png") == b"\x89PNG"
    assert shown.part("image/jpeg") == b"\xff\xd8"
    span = shown.body["bundle"]["metadata"]
    metadata = shown.payload[span["offset"] : span["offset"] + span["length"]]
    assert json.loads(metadata) == {"image/png": {"width": 3}}


def test_a_part_that_cannot_be_encoded_is_said_and_left_out(shared: Worker) -> None:
    result = shared.run(
        "from IPython.display import display\n"
        "display({'image/png': 'not base64!', 'text/plain': 'p'}, raw=True)"
    )
    assert result.end == "ok"
    assert result.only("display").mimes == ["text/plain"]
    notice = result.only("notice").body
    assert notice["topic"] == "degraded"
    assert notice["text"].startswith("image/png was left out: ")


def test_large_displays_come_sealed_and_too_large_ones_lesser(shared: Worker) -> None:
    code = (
        "from IPython.display import display\n"
        "display({{'text/html': 'h' * {size}, 'text/plain': 'p' * 100_000}}, raw=True)"
    )
    result = shared.run(code.format(size=40 << 20))
    assert len(result.only("display").part("text/html")) == 40 << 20
    result = shared.run(code.format(size=60 << 20))
    assert result.only("display").mimes == ["text/plain"]
    assert f"text/html of {60 << 20} bytes was left out" in result.only("notice").body["text"]


def test_a_failing_representation_costs_only_itself(shared: Worker) -> None:
    result = shared.run(
        "class Bad:\n    def _repr_html_(self): raise ValueError('html')\n"
        "    def __repr__(self): return 'bad'\nBad()"
    )
    assert result.end == "ok"
    assert result.shape == [("error", "ValueError"), ("result", "bad")]


def test_a_repr_that_raises_is_an_error_output(shared: Worker) -> None:
    result = shared.run("class Bad:\n    def __repr__(self): raise ValueError\nBad()")
    assert [kind for kind, _ in result.shape] == ["error"]


def test_tables_have_html_and_text(shared: Worker) -> None:
    result = shared.run("import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\ndf")
    assert set(result.only("result").mimes) == {"text/html", "text/plain"}
    info = next(n for n in result.finished["names"]["added"] if n["name"] == "df")
    assert info == {"name": "df", "kind": "pandas.DataFrame", "bytes": 16}
    shared.run("import numpy as np")
    names = shared.run("array = np.zeros(100)").finished["names"]["added"]
    assert names == [{"name": "array", "kind": "numpy.ndarray", "bytes": 800}]


@pytest.mark.parametrize("magic", ["", "%matplotlib inline\n"])
def test_figures_are_shown_once_in_their_place(worker: Worker, magic: str) -> None:
    result = worker.run(
        f"{magic}import matplotlib.pyplot as plt\nprint('before')\nplt.plot([1, 2])\n"
        "plt.show()\nprint('after')"
    )
    assert [kind for kind, _ in result.shape] == ["stdout", "display", "stdout"]
    shown = result.only("display")
    assert shown.part("text/plain") == b"<Figure size 640x480 with 1 Axes>"
    assert shown.part("image/png").startswith(PNG)
    # Without show(): at the end of the cell, and closed.
    result = worker.run("figure = plt.figure(); _ = plt.plot([1])\nprint('end')")
    assert [kind for kind, _ in result.shape] == ["stdout", "display"]
    assert worker.run("plt.get_fignums()").shape == [("result", "[]")]
    assert worker.run("display(figure)").only("display").part("image/png").startswith(PNG)


def test_a_figure_of_a_cell_that_fails_is_shown(worker: Worker) -> None:
    result = worker.run("import matplotlib.pyplot as plt\n_ = plt.plot([1])\n1/0")
    assert [kind for kind, _ in result.shape] == ["error", "display"]


def test_plotly_figures_are_json(shared: Worker) -> None:
    result = shared.run(
        "import plotly.graph_objects as go\nfig = go.Figure(go.Bar(y=[1, 2]))\nfig.show()\nfig"
    )
    # A figure as last expression is displayed too: Plotly's `_ipython_display_`, as in Jupyter.
    assert [kind for kind, _ in result.shape] == ["display", "display"]
    for output in result.outputs:
        figure = json.loads(output.part("application/vnd.plotly.v1+json"))
        assert figure["data"][0]["type"] == "bar"
        assert len(output.payload) < 20_000


# Questions.


def matches(worker: Worker, code: str) -> Any:
    answer, _ = worker.ask({"complete": {"cursor": len(code)}}, code)
    return answer["complete"]


def test_completion_counts_code_points(shared: Worker) -> None:
    shared.run("some_long_name = 'é'")
    found = matches(shared, "'𝄞é'; some_lo")
    assert (found["start"], found["end"]) == (6, 13)
    assert [match["text"] for match in found["matches"]] == ["some_long_name"]
    assert any(match["text"].endswith("upper") for match in matches(shared, "some_long_name.")["matches"])
    assert matches(shared, "nothing_like_this_exists_")["matches"] == []


def test_inspection_gives_signature_and_documentation(shared: Worker) -> None:
    shared.run("def documented(x):\n    'What it does'\n    return x")
    answer, payload = shared.ask({"inspect": {"cursor": 5, "detail": 0}}, "documented")
    (part,) = answer["inspect"]["bundle"]["parts"]
    assert part["mime"] == "text/plain"
    assert b"What it does" in payload
    _, payload = shared.ask({"inspect": {"cursor": 5, "detail": 1}}, "documented")
    assert b"return" in payload
    assert shared.ask({"inspect": {"cursor": 2, "detail": 0}}, "nope")[0] == {"inspect": {"bundle": None}}


@pytest.mark.parametrize(
    ("code", "status", "indent"),
    [("1+1", "complete", ""), ("def f():", "incomplete", "    "), ("x = = 1", "invalid", "")],
)
def test_completeness(shared: Worker, code: str, status: str, indent: str) -> None:
    answer, _ = shared.ask("is_complete", code)
    assert answer == {"is_complete": {"status": status, "indent": indent}}


def test_history_and_variables(worker: Worker) -> None:
    worker.run("b = 'x'")
    worker.run("a = 1")
    worker.run("secret = 2", store_history=False)
    assert worker.ask({"history": {"last": 10}})[0] == {"history": {"inputs": [[1, "b = 'x'"], [2, "a = 1"]]}}
    assert worker.ask({"history": {"last": 1}})[0] == {"history": {"inputs": [[2, "a = 1"]]}}
    names = worker.ask("variables")[0]["variables"]["variables"]
    assert [name["name"] for name in names] == ["a", "b", "secret"]


def test_questions_while_a_cell_runs_are_answered_busy(worker: Worker) -> None:
    execution = worker.start("import asyncio\nprint('go')\nawait asyncio.sleep(0.5)")
    worker.until_output(execution, "go")
    assert worker.ask("variables")[0] == "busy"
    assert worker.wait(execution).end == "ok"


def test_a_long_notebook_has_names_for_its_last_inputs_alone(worker: Worker) -> None:
    for number in range(1, 1_004):
        worker.run(f"value = {number}")
    look = "[name in globals() for name in ('_i3', '_i4', '_i1003')], In[1], len(In)"
    # This input is the 1,004th, and so the fourth has no name any more.
    assert worker.run(look).shape == [("result", "([False, False, True], 'value = 1', 1005)")]
    named = worker.run("sum(name[:2] == '_i' and name[2:].isdigit() for name in globals())")
    assert named.shape == [("result", "1000")]
