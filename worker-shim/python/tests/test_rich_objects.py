"""Objects that say themselves how they are shown."""

from __future__ import annotations

import json

import pytest

from .harness import Worker


@pytest.mark.parametrize(
    ("method", "value", "mime", "shown"),
    [
        ("html", "'<b>x</b>'", "text/html", b"<b>x</b>"),
        ("markdown", "'*x*'", "text/markdown", b"*x*"),
        ("latex", "'$x$'", "text/latex", b"$x$"),
        ("svg", "'<svg/>'", "image/svg+xml", b"<svg/>"),
        ("javascript", "'1'", "application/javascript", b"1"),
        ("json", "{'x': [1]}", "application/json", b'{"x": [1]}'),
        ("png", "b'\\x89PNG'", "image/png", b"\x89PNG"),
        ("jpeg", "b'\\xff\\xd8'", "image/jpeg", b"\xff\xd8"),
        ("pdf", "b'%PDF'", "application/pdf", b"%PDF"),
    ],
)
def test_each_representation_is_a_part(
    shared: Worker, method: str, value: str, mime: str, shown: bytes
) -> None:
    result = shared.run(
        f"class Thing:\n    def _repr_{method}_(self): return {value}\n"
        "    def __repr__(self): return 'thing'\nThing()"
    ).only("result")
    assert set(result.mimes) == {"text/plain", mime}
    assert result.part(mime) == shown
    assert result.part("text/plain") == b"thing"


def test_a_mime_bundle_is_shown_with_its_metadata(shared: Worker) -> None:
    shown = shared.run(
        "class Thing:\n    def _repr_mimebundle_(self, include=None, exclude=None):\n"
        "        return {'text/html': 'x', 'application/vnd.own+json': {'a': 1}}, {'text/html': {'w': 3}}\n"
        "    def __repr__(self): return 'thing'\ndisplay(Thing())"
    ).only("display")
    assert set(shown.mimes) == {"text/plain", "text/html", "application/vnd.own+json"}
    assert shown.metadata == {"text/html": {"w": 3}}


def test_an_object_may_display_itself(shared: Worker) -> None:
    result = shared.run("class Thing:\n    def _ipython_display_(self): print('shown')\nThing()")
    assert result.shape == [("stdout", "shown\n")]


def test_a_formatter_that_user_code_registers_is_used(shared: Worker) -> None:
    result = shared.run(
        "class Thing: pass\nhtml = get_ipython().display_formatter.formatters['text/html']\n"
        "html.for_type(Thing, lambda thing: '<i>')\nThing()"
    )
    assert result.only("result").part("text/html") == b"<i>"


def test_json_has_the_numbers_of_numpy_and_what_is_near_to_dates_sets_and_bytes(shared: Worker) -> None:
    shown = shared.run(
        "import datetime, numpy as np\nfrom IPython.display import JSON\n"
        "JSON({'i': np.int64(3), 'f': np.float32(2.5), 'nan': np.float32('nan'), 'a': np.arange(3),\n"
        "      'd': datetime.date(2026, 1, 2), 's': {1}, 'b': b'abc', 'o': JSON, 'c': 1j})"
    ).only("result")
    text = shown.part("application/json").decode()
    assert text.startswith('{"i": 3, "f": 2.5, ')
    assert json.loads(text) == {
        "i": 3,
        "f": 2.5,
        "nan": None,
        "a": [0, 1, 2],
        "d": "2026-01-02",
        "s": [1],
        "b": "YWJj",
        "o": "<class 'IPython.core.display.JSON'>",
        "c": "1j",
    }


def test_a_structure_under_any_mime_type_is_json(shared: Worker) -> None:
    shown = shared.run("display({'application/vnd.own.v1.json': {'a': [None, 'é']}}, raw=True)").only(
        "display"
    )
    assert json.loads(shown.part("application/vnd.own.v1.json")) == {"a": [None, "é"]}


def test_libraries_that_look_for_a_notebook_find_one(shared: Worker) -> None:
    # As pandas, polars and rich do it.
    result = shared.run(
        "ip = get_ipython()\ntype(ip).__name__, hasattr(ip, 'kernel'), 'IPKernelApp' in ip.config"
    )
    assert result.shape == [("result", "('ZMQInteractiveShell', True, True)")]


@pytest.mark.parametrize(
    ("register", "value"),
    [
        ("html.for_type(int, lambda number: '<i>')", "1"),
        ("html.for_type(object, lambda thing: '<i>')", "[1]"),
        ("html.for_type_by_name('builtins', 'dict', lambda thing: '<i>')", "{}"),
        ("html.singleton_printers[id(None)] = lambda nothing: '<i>'", "None"),
    ],
)
def test_a_formatter_for_a_plain_value_is_used_and_only_while_it_is_there(
    worker: Worker, register: str, value: str
) -> None:
    show = f"from IPython.display import display\ndisplay({value})"
    (before,) = worker.run(show).outputs
    assert b"<i>" not in before.payload
    worker.run(f"html = get_ipython().display_formatter.formatters['text/html']\n{register}")
    (shown,) = worker.run(show).outputs
    assert b"<i>" in shown.payload
    worker.run(
        "for kept in (html.type_printers, html.deferred_printers, html.singleton_printers): kept.clear()"
    )
    (after,) = worker.run(show).outputs
    assert (after.body, after.payload) == (before.body, before.payload)
