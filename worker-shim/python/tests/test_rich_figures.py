"""Pictures: matplotlib, seaborn, Pillow."""

from __future__ import annotations

import struct

import pytest

from .harness import Output, Worker

PNG = b"\x89PNG\r\n\x1a\n"
PLOT = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])\n"


def size(shown: Output) -> tuple[int, int]:
    """Of a PNG, in pixels."""
    width, height = struct.unpack_from(">II", shown.part("image/png"), 16)
    return width, height


def test_a_figure_is_shown_by_show_where_it_is_called_and_by_the_last_expression(worker: Worker) -> None:
    result = worker.run(
        f"{PLOT}plt.show()\nfor step in range(2):\n    plt.plot([step])\n    plt.show()\n    print(step)"
    )
    assert [kind for kind, _ in result.shape] == ["display", "display", "stdout", "display", "stdout"]
    result = worker.run("figure, axes = plt.subplots()\nfigure")
    # As in Jupyter: as a value, and as a figure that is open at the end.
    assert [kind for kind, _ in result.shape] == ["result", "display"]
    assert all("image/png" in output.mimes for output in result.outputs)


@pytest.mark.parametrize(
    "setting",
    [
        "%config InlineBackend.figure_formats = ['svg']",
        "%matplotlib inline\n%config InlineBackend.figure_format = 'svg'",
        "from matplotlib_inline.backend_inline import set_matplotlib_formats\nset_matplotlib_formats('svg')",
    ],
)
def test_figures_are_svg_where_that_is_asked_for(worker: Worker, setting: str) -> None:
    shown = worker.run(f"{setting}\n{PLOT}").only("display")
    assert set(shown.mimes) == {"text/plain", "image/svg+xml"}
    assert b"<svg" in shown.part("image/svg+xml")


def test_a_retina_figure_has_twice_the_pixels_and_says_its_size(worker: Worker) -> None:
    plain = worker.run(PLOT).only("display")
    fine = worker.run(f"%config InlineBackend.figure_format = 'retina'\n{PLOT}").only("display")
    (width, height), (plain_width, plain_height) = size(fine), size(plain)
    # The margins are rounded after they are doubled.
    assert abs(width - 2 * plain_width) <= 2
    assert abs(height - 2 * plain_height) <= 2
    assert fine.metadata == {"image/png": {"width": width // 2, "height": height // 2}}
    assert plain.metadata == {}


def test_the_options_of_the_inline_backend_hold(worker: Worker) -> None:
    result = worker.run(
        f"%config InlineBackend.print_figure_kwargs = {{'dpi': 10, 'bbox_inches': None}}\n{PLOT}"
    )
    assert size(result.only("display")) == (64, 48)
    worker.run(f"%config InlineBackend.close_figures = False\n{PLOT}")
    assert worker.run("len(plt.get_fignums())").shape[0] == ("result", "1")


@pytest.mark.parametrize("backend", ["notebook", "widget", "ipympl"])
def test_live_backends_draw_inline_and_say_so(worker: Worker, backend: str) -> None:
    result = worker.run(f"%matplotlib {backend}\n{PLOT}")
    assert result.end == "ok"
    assert (
        result.only("notice").body["text"] == f"figures are shown inline: `{backend}` needs a live front end"
    )
    assert result.only("display").part("image/png").startswith(PNG)


def test_seaborn_draws_one_figure(worker: Worker) -> None:
    result = worker.run(
        "import pandas as pd, seaborn as sns\nsns.set_theme()\n"
        "grid = sns.relplot(pd.DataFrame({'a': [1, 2], 'b': [3, 4]}), x='a', y='b')\nprint('end')"
    )
    assert [kind for kind, _ in result.shape] == ["stdout", "display"]
    assert result.only("display").part("image/png").startswith(PNG)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "CMYK"])
def test_images_of_pillow_are_pictures(shared: Worker, mode: str) -> None:
    shown = shared.run(f"from PIL import Image\nImage.new({mode!r}, (4, 3))").only("result")
    # Some modes are no PNG.
    pictures = [shown.part(mime)[:2] for mime in shown.mimes if mime.startswith("image/")]
    assert pictures
    assert set(pictures) <= {PNG[:2], b"\xff\xd8"}


def test_show_of_pillow_displays_whatever_viewers_there_are(worker: Worker) -> None:
    # A program that Pillow would start: it looks for it on PATH.
    result = worker.run(
        "import os\nfrom pathlib import Path\nviewer = Path('bin/xdg-open')\nviewer.parent.mkdir()\n"
        "viewer.write_text('#!/bin/sh\\n')\nviewer.chmod(0o755)\n"
        "os.environ['PATH'] = f\"{viewer.parent.resolve()}:{os.environ['PATH']}\"\n"
        "from PIL import Image\nImage.new('RGB', (4, 3)).show()"
    )
    assert size(result.only("display")) == (4, 3)
