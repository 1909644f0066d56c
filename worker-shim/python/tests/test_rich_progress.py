"""Progress bars."""

from __future__ import annotations

import pytest

from .harness import Result, Worker


def bars(result: Result) -> list[tuple[bool, str]]:
    """(whether it is an update, text up to the counter) of each display."""
    return [
        (output.body["update"], output.part("text/plain").decode().partition(" [")[0])
        for output in result.outputs
        if output.kind == "display"
    ]


def test_a_text_bar_is_one_line_that_is_written_over(shared: Worker) -> None:
    result = shared.run("from tqdm import tqdm\nfor _ in tqdm(range(4), mininterval=0, miniters=1): pass")
    text = result.stream("stderr")
    steps = [step.partition("%")[0].strip() for step in text.split("\r")[1:]]
    # The last one is written twice.
    assert list(dict.fromkeys(steps)) == ["0", "25", "50", "75", "100"]
    assert text.endswith("\n")


@pytest.mark.parametrize("module", ["notebook", "auto", "autonotebook"])
def test_a_notebook_bar_is_a_display_that_moves(worker: Worker, module: str) -> None:
    result = worker.run(
        f"import time\nfrom tqdm.{module} import tqdm\n"
        "for _ in tqdm(range(4), desc='work', mininterval=0, miniters=1):\n    time.sleep(0.03)"
    )
    assert {output.kind for output in result.outputs} == {"display"}
    assert {tuple(output.mimes) for output in result.outputs} == {("text/plain",)}
    assert len({output.body["display_id"] for output in result.outputs}) == 1
    first, *moves = bars(result)
    assert first == (False, "work:   0%|          | 0/4")
    assert {update for update, _ in moves} == {True}
    assert "work:  50%|█████     | 2/4" in [text for _, text in moves]
    assert moves[-1][1] == "work: 100%|██████████| 4/4"


def test_bars_within_bars_and_what_is_printed_stay_apart(worker: Worker) -> None:
    result = worker.run(
        "from tqdm.auto import tqdm, trange\nfor _ in trange(2, desc='outer'):\n"
        "    for _ in tqdm(range(3), desc='inner'): pass\n    tqdm.write('said')"
    )
    assert result.stream("stdout") == "said\nsaid\n"
    assert result.stream("stderr") == ""
    last = {
        o.body["display_id"]: o.part("text/plain").decode() for o in result.outputs if o.kind == "display"
    }
    assert [text.partition("|")[0] for text in last.values()] == ["outer: 100%", "inner: 100%", "inner: 100%"]


def test_a_bar_that_is_not_to_stay_is_emptied(worker: Worker) -> None:
    result = worker.run("from tqdm.notebook import tqdm\nfor _ in tqdm(range(3), leave=False): pass")
    assert bars(result)[-1] == (True, "")


def test_a_bar_stands_where_the_cell_failed(worker: Worker) -> None:
    result = worker.run("from tqdm.notebook import tqdm\nfor step in tqdm(range(4)):\n    if step == 2: 1/0")
    assert bars(result)[-1][1] == " 50%|█████     | 2/4"
    assert result.shape[-1] == ("error", "ZeroDivisionError")


def test_a_progress_widget_moves_and_ends_where_it_is(worker: Worker) -> None:
    result = worker.run(
        "import ipywidgets\nbar = ipywidgets.IntProgress(max=5000, description='rows')\ndisplay(bar)\n"
        "for step in range(5001): bar.value = step"
    )
    texts = [output.part("text/plain").decode() for output in result.outputs]
    assert texts[0].startswith("IntProgress rows: 0 (0 to 5000)  ░░░░░░░░░░░░░░░░░░░░")
    assert texts[-1].startswith("IntProgress rows: 5000 (0 to 5000)  ████████████████████")
    # Not one for each step.
    assert len(texts) < 500
