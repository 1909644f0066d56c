"""IPython's own displays, outputs that change, warnings."""

from __future__ import annotations

import pytest

from .harness import Worker

IMPORT = "from IPython.display import *\n"


@pytest.mark.parametrize(
    ("code", "mime", "within"),
    [
        ("HTML('<b>x</b>')", "text/html", "<b>x</b>"),
        ("Markdown('*x*')", "text/markdown", "*x*"),
        ("Latex('$x$')", "text/latex", "$x$"),
        ("Math('x')", "text/latex", r"$\displaystyle x$"),
        ("SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"><g/></svg>')", "image/svg+xml", "<g/>"),
        ("JSON({'a': 1})", "application/json", '{"a": 1}'),
        ("Javascript('1')", "application/javascript", "1"),
        ("Audio([0.0, 0.5], rate=8000)", "text/html", "data:audio/wav;base64,"),
        ("Video(b'x', embed=True, mimetype='video/webm')", "text/html", "data:video/webm;base64,eA=="),
        ("IFrame('https://example.org', 10, 10)", "text/html", "<iframe"),
        ("Code('x = 1', language='python')", "text/html", "highlight"),
    ],
)
def test_a_display_has_the_type_that_it_names(shared: Worker, code: str, mime: str, within: str) -> None:
    shown = shared.run(IMPORT + code).only("result")
    assert mime in shown.mimes
    assert within in shown.part(mime).decode()


@pytest.mark.parametrize("form", ["png", "jpeg", "gif", "webp"])
def test_an_image_is_its_bytes_and_its_size(shared: Worker, form: str) -> None:
    shown = shared.run(
        f"import io\nfrom PIL import Image as Picture\nfile = io.BytesIO()\n"
        f"Picture.new('RGB', (4, 3)).save(file, {form!r})\n{IMPORT}"
        f"Image(file.getvalue(), format={form!r}, width=40)"
    ).only("result")
    assert shown.part(f"image/{form}")[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0", b"GIF8", b"RIFF")
    assert shown.metadata == {f"image/{form}": {"width": 40}}


def test_a_handle_changes_its_display_and_shows_it_again(shared: Worker) -> None:
    result = shared.run(
        f"{IMPORT}handle = display(HTML('a'), display_id=True)\nhandle.update(HTML('b'))\n"
        "handle.display(HTML('c'))\nupdate_display('d', display_id=handle.display_id)"
    )
    ids = {output.body["display_id"] for output in result.outputs}
    assert len(ids) == 1
    assert ids != {None}
    assert [output.body["update"] for output in result.outputs] == [False, True, False, True]
    assert [output.mimes[-1] for output in result.outputs] == [
        "text/html",
        "text/html",
        "text/html",
        "text/plain",
    ]


def test_clear_output_stands_in_its_place_among_the_text(shared: Worker) -> None:
    result = shared.run(f"{IMPORT}print(1)\nclear_output()\nprint(2)\nclear_output(wait=True)\nprint(3)")
    kinds = [kind for kind, _ in result.shape]
    assert kinds == ["stdout", "clear_output", "stdout", "clear_output", "stdout"]
    assert [output.body["wait"] for output in result.outputs if output.kind == "clear_output"] == [
        False,
        True,
    ]


def test_captured_outputs_are_shown_when_they_are_asked_for(worker: Worker) -> None:
    assert worker.run("%%capture kept\nprint('text')\ndisplay('shown')").outputs == []
    assert worker.run("kept.show()").shape == [("stdout", "text\n"), ("display", "'shown'")]


def test_warnings_are_shown_as_python_shows_them(worker: Worker) -> None:
    result = worker.run(
        "import warnings\nwarnings.warn('careful')\n"
        "def deep():\n    warnings.warn('old', DeprecationWarning, stacklevel=2)\n"
        "deep()\nfor _ in range(3):\n    warnings.warn('again')"
    )
    lines = result.stream("stderr").splitlines()
    assert [line.partition(".py")[2] for line in lines[::2]] == [
        ":2: UserWarning: careful",
        ":5: DeprecationWarning: old",
        ":7: UserWarning: again",
    ]
    assert lines[1::2] == ["  warnings.warn('careful')", "  deep()", "  warnings.warn('again')"]


def test_a_warning_may_be_made_an_error(worker: Worker) -> None:
    result = worker.run("import warnings\nwarnings.simplefilter('error')\nwarnings.warn('careful')")
    assert result.end == {"error": {"name": "UserWarning", "value": "careful"}}
