"""matplotlib figures in runs of the service, and beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .harness import Worker
from .service import Run, Service

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def service(shared: Worker) -> Service:
    """A worker that the tests of this module share."""
    return Service(shared)


@pytest.fixture
def fresh(worker: Worker) -> Service:
    """A worker of this test's own."""
    return Service(worker)


def plots(run: Run) -> list[tuple[Any, Any]]:
    """(source, label) of the images."""
    return [(image["source"], image["label"]) for image in run.of("image")]


AUTO = ("auto-captured", None)


def test_an_open_figure_is_captured_at_the_end(service: Service) -> None:
    run = service.run("_ = plt.plot([1, 2, 3])\nprint('on')")
    image = run.only("image")
    assert image["data"].startswith(PNG)
    assert plots(run) == [AUTO]
    assert service.run("x = 1").shown == []


def test_show_does_nothing_and_keeps_the_figure(service: Service) -> None:
    run = service.run(
        "for i in range(2):\n    plt.figure(); plt.plot([i]); plt.show()\nplt.gcf().show()\nprint('on')"
    )
    assert (plots(run), run.stdout, run.stderr) == ([AUTO, AUTO], "on\n", "")


def test_a_displayed_figure_is_shown_once(service: Service) -> None:
    run = service.run("f, a = plt.subplots(); display(f, 'Figure 1: E')\ng, b = plt.subplots(); b.plot([2])")
    assert plots(run) == [("display", "Figure 1: E"), AUTO]


def test_pyplot_itself_is_displayed_once(service: Service) -> None:
    assert plots(service.run("plt.plot([1])\ndisplay(plt, 'P')")) == [("display", "P")]


def test_a_seaborn_grid_is_displayed_once(service: Service) -> None:
    run = service.run(
        "g = sns.relplot(data=pd.DataFrame({'a': [1, 2], 'b': [3, 4]}), x='a', y='b')\ndisplay(g, 'G')"
    )
    assert plots(run) == [("display", "G")]


def test_a_figure_is_shown_as_it_was_each_time(service: Service) -> None:
    run = service.run("f, a = plt.subplots()\nfor i in range(3):\n    a.plot([i, 1]); display(f)\ndisplay(f)")
    images = [image["data"] for image in run.of("image")]
    assert len(set(images)) == 3
    # Unchanged, it is not shown again.
    assert len(images) == 3


def test_default_labels_of_figures_are_numbered(fresh: Service) -> None:
    run = fresh.run("display(plt.figure()); display(plt.figure(), 'Mine'); display(plt.figure())")
    assert [label for _, label in plots(run)] == ["Figure 1", "Mine", "Figure 2"]


def test_figures_before_an_error_are_kept(service: Service) -> None:
    run = service.try_("plt.plot([1])\n1/0")
    assert run.end["error"]["name"] == "ZeroDivisionError"
    assert plots(run) == [AUTO]
    assert service.run("print(plt.get_fignums())").stdout == "[]\n"


def test_a_figure_that_is_not_pyplots_is_shown_only_when_displayed(service: Service) -> None:
    run = service.run("from matplotlib.figure import Figure\nf = Figure(); f.subplots()")
    assert run.shown == []
    assert plots(service.run("display(f, 'F')")) == [("display", "F")]


def test_a_figure_that_cannot_be_drawn_is_told_and_the_others_are_shown(service: Service) -> None:
    run = service.run("plt.figure(); plt.title('$\\\\frac{$')\nplt.figure(); _ = plt.plot([1])")
    assert plots(run) == [AUTO]
    assert [notice.split(":")[0] for notice in run.notices] == ["figure 1 could not be shown"]


def test_the_backend_of_runs_is_agg_and_nothing_else_changes_it(fresh: Service) -> None:
    run = fresh.run(
        "%matplotlib inline\nimport matplotlib\nprint(matplotlib.get_backend().lower())\n_ = plt.plot([1])"
    )
    assert (run.stdout, plots(run)) == ("agg\n", [AUTO])
    assert fresh.run("print(matplotlib.get_backend().lower(), plt.isinteractive())").stdout == "agg False\n"


def test_other_code_has_the_inline_backend(fresh: Service) -> None:
    fresh.run("_ = plt.plot([1])")
    for _ in range(2):
        shape = fresh.worker.run("import matplotlib.pyplot as plt\n_ = plt.plot([1])\nplt.show()").shape
        assert shape == [("display", "<Figure size 640x480 with 1 Axes>")]
        assert plots(fresh.run("_ = plt.plot([1])\nplt.show()")) == [AUTO]
    # And at the end of a cell.
    shape = fresh.worker.run("_ = plt.plot([1])").shape
    assert shape == [("display", "<Figure size 640x480 with 1 Axes>")]


def test_other_code_that_imports_pyplot_first_changes_nothing(fresh: Service) -> None:
    shape = fresh.worker.run("import matplotlib.pyplot as plt\n_ = plt.plot([1])").shape
    assert [kind for kind, _ in shape] == ["display"]
    assert plots(fresh.run("_ = plt.plot([1])")) == [AUTO]
    assert [kind for kind, _ in fresh.worker.run("_ = plt.plot([1])").shape] == ["display"]


def test_other_code_that_only_imports_pyplot_changes_nothing(fresh: Service) -> None:
    fresh.worker.run("import matplotlib.pyplot as plt")
    assert plots(fresh.run("_ = plt.plot([1])")) == [AUTO]
    shape = fresh.worker.run("_ = plt.plot([1])").shape
    assert [kind for kind, _ in shape] == ["display"]


def test_a_run_without_figures_does_not_import_matplotlib(tmp_path: Path) -> None:
    # Not of a zygote, which has imported it.
    worker = Worker(cwd=tmp_path)
    run = Service(worker).run(
        "import sys\nprint([m for m in ('matplotlib', 'pandas', 'numpy', 'plotly') if m in sys.modules])"
    )
    assert run.stdout == "[]\n"
    worker.close()


def test_an_interrupt_while_figures_are_drawn_ends_the_run_in_time(service: Service) -> None:
    execution = service.start(
        "class Slow(plt.Artist):\n"
        "    def draw(self, renderer):\n"
        "        import time\n"
        "        print('drawing', flush=True)\n"
        "        time.sleep(20)\n"
        "before = pd.DataFrame({'a': [1]})\n"
        "plt.figure().add_artist(Slow())\nf = plt.figure()"
    )
    service.worker.until_output(execution, "drawing")
    service.worker.interrupt()
    run = service.wait(execution)
    assert run.end == "ok"
    assert run.kinds == ["table"]
    assert run.notices == ["left out, as the run was interrupted: 2 of the tables and figures it made"]
    assert plots(service.run("_ = plt.plot([1])")) == [AUTO]


def test_a_run_that_imports_the_inline_backend_does_not_break_it(fresh: Service) -> None:
    fresh.run("from matplotlib_inline.backend_inline import set_matplotlib_formats\n_ = plt.plot([1])")
    shape = fresh.worker.run("import matplotlib.pyplot as plt\n_ = plt.plot([1])").shape
    assert [kind for kind, _ in shape] == ["display"]


def test_a_figure_that_was_cleared_away_is_shown_again(service: Service) -> None:
    run = service.run(
        "from IPython.display import clear_output\n"
        "f = plt.figure()\ndisplay(f, 'A')\nclear_output()\ndisplay(f, 'A')"
    )
    assert plots(run) == [("display", "A"), ("display", "A")]
    assert not any(shown.output.body["update"] for shown in run.shown)
    # Cleared away and not shown again, it is not wanted.
    assert len(service.run("display(plt.figure())\nclear_output()").shown) == 1


def test_a_figure_displayed_under_an_id_is_not_captured_again(service: Service) -> None:
    run = service.run(
        "import IPython.display as d\nf = plt.figure()\nh = d.display(f, display_id=True)\nh.update(f)"
    )
    assert len(run.shown) == 2
    assert [shown.output.body["update"] for shown in run.shown] == [False, True]
