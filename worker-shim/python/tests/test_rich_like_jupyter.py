"""The same code in ipykernel and here: the same outputs, in the same order, in the same mime types."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from .harness import SECONDS, Output, Worker

# One after the other in one process.
CODE = {
    "figure": """
import matplotlib.pyplot as plt
plt.plot([1, 2])
plt.show()
plt.plot([2])
""",
    "figure as value": """
figure, axes = plt.subplots()
print("made")
figure
""",
    "retina": """
%config InlineBackend.figure_format = "retina"
plt.plot([1, 2]);
""",
    "svg and png": """
%config InlineBackend.figure_formats = ["svg", "png"]
plt.plot([1, 2]);
""",
    "pylab": """
%config InlineBackend.figure_formats = ["png"]
%pylab inline
plot([1]);
""",
    "seaborn": """
import pandas as pd, seaborn as sns
sns.relplot(pd.DataFrame({"a": [1], "b": [2]}), x="a", y="b")
""",
    "animation": """
from matplotlib.animation import FuncAnimation
from IPython.display import HTML
figure, axes = plt.subplots()
(line,) = axes.plot([0, 1])
page = HTML(FuncAnimation(figure, lambda step: line.set_ydata([0, step]), frames=2).to_jshtml())
plt.close()
page
""",
    "plotly": """
import plotly.express as px
figure = px.bar(x=[1], y=[2])
figure.show()
figure
""",
    "altair": """
import altair as alt
chart = alt.Chart(pd.DataFrame({"a": [1]})).mark_bar().encode(x="a")
chart.show()
chart
""",
    "altair as data": """
with alt.renderers.enable("mimetype"):
    display(chart)
""",
    "altair refuses": """
alt.Chart(pd.DataFrame({"a": range(6000)})).mark_bar().encode(x="a")
""",
    "bokeh": """
from bokeh.plotting import figure, show
from bokeh.io import output_notebook
output_notebook()
drawing = figure()
drawing.line([1], [2])
show(drawing)
drawing
""",
    "pillow": """
from PIL import Image
for mode in ("RGB", "RGBA", "CMYK", "1"):
    display(Image.new(mode, (2, 2)))
""",
    "pandas": """
frame = pd.DataFrame({"a": [1, 2]})
display(frame, frame.style.highlight_max())
frame["a"]
""",
    "pandas, wide": """
print(pd.DataFrame([range(1000, 1040)] * 3))
pd.DataFrame([range(1000, 1040)])
""",
    "polars": """
import polars as pl
table = pl.DataFrame({"a": [1]})
display(table, table["a"])
table.plot.line()
""",
    "sympy": """
import sympy
x = sympy.Symbol("x")
display(x**2)
sympy.init_printing()
[x, x**2]
""",
    "displays": """
from IPython.display import *
display(HTML("a"), Markdown("b"), Latex("$c$"), Math("d"), JSON({"e": 1}), Javascript("1"))
display(SVG('<svg xmlns="http://www.w3.org/2000/svg"/>'), Code("x", language="python"), Pretty("p"))
display(Audio([0.0, 0.5], rate=8000), Video(b"x", embed=True, mimetype="video/mp4"))
display(IFrame("https://example.org", 1, 1), YouTubeVideo("abc"), GeoJSON({"type": "Point"}))
for _ in ProgressBar(2):
    pass
""",
    "updates": """
handle = display(HTML("a"), display_id=True)
handle.update(HTML("b"))
display("c", display_id="own")
update_display("d", display_id="own")
""",
    "clear_output": """
print(1)
clear_output()
print(2)
clear_output(wait=True)
print(3)
""",
    "magics": """
run = get_ipython().run_cell_magic
for name in ("html", "latex", "markdown", "javascript", "svg"):
    run(name, "", "<svg/>")
""",
    "capture": """
from IPython.utils.capture import capture_output
with capture_output() as kept:
    display(1)
kept()
""",
    "warnings": """
import warnings
warnings.warn("a")
warnings.warn("b", DeprecationWarning)
""",
    "logging": """
import logging
logging.warning("a")
""",
    "tqdm": """
from tqdm import tqdm
for _ in tqdm([]):
    pass
""",
    "a representation fails": """
class Bad:
    def _repr_html_(self): raise ValueError
    def __repr__(self): return "bad"
display(Bad())
""",
}

Form = tuple[Any, ...]
KINDS = {"display_data": "display", "update_display_data": "update", "execute_result": "result"}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockingKernelClient]:
    """The peer, as nbclient starts it."""
    manager = KernelManager()
    manager.start_kernel(cwd=str(tmp_path_factory.mktemp("kernel")))
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=SECONDS)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def of_kernel(kernel: BlockingKernelClient, code: str) -> list[Form]:
    """What the kernel puts out for a cell."""
    forms: list[Form] = []
    request = kernel.execute(code)
    while True:
        message = kernel.get_iopub_msg(timeout=SECONDS)
        kind, content = message["msg_type"], message["content"]
        if message["parent_header"].get("msg_id") != request:
            continue
        if kind == "status" and content["execution_state"] == "idle":
            return forms
        if kind == "stream":
            add_text(forms, content["name"])
        elif kind in KINDS:
            forms.append((KINDS[kind], frozenset(content["data"]), names(content["metadata"])))
        elif kind == "error":
            forms.append((kind, content["ename"]))
        elif kind == "clear_output":
            forms.append((kind, content["wait"]))


def of_worker(outputs: list[Output]) -> list[Form]:
    """The same, for what the worker puts out."""
    forms: list[Form] = []
    for output in outputs:
        if output.kind in ("stdout", "stderr"):
            add_text(forms, output.kind)
        elif output.kind in ("display", "result"):
            kind = "update" if output.body.get("update") else output.kind
            forms.append((kind, frozenset(output.mimes), names(output.metadata)))
        elif output.kind == "error":
            forms.append((output.kind, output.body["name"]))
        else:
            forms.append((output.kind, output.body.get("wait")))
    return forms


def add_text(forms: list[Form], stream: str) -> None:
    """How text is cut into pieces says nothing."""
    if not forms or forms[-1] != (stream,):
        forms.append((stream,))


def names(metadata: dict[str, Any]) -> Form:
    """Bokeh's metadata hold ids that differ from run to run."""
    return tuple(sorted((mime, tuple(sorted(said))) for mime, said in metadata.items()))


def test_the_same_outputs_as_in_jupyter(kernel: BlockingKernelClient, tmp_path: Path) -> None:
    worker = Worker(cwd=tmp_path)
    try:
        ours = {name: of_worker(worker.run(code).outputs) for name, code in CODE.items()}
    finally:
        worker.close()
    assert ours == {name: of_kernel(kernel, code) for name, code in CODE.items()}
