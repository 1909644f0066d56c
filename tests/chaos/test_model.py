"""The model itself: what holds is let pass, and each way in which it can be broken is seen."""

from __future__ import annotations

import pytest

from .model import Applied, Notebook, Reading, Seen, owners


def seen(*trail: int) -> Seen:
    return Seen(trail, len(trail), owners(trail))


def after(*numbers: int) -> Notebook:
    notebook = Notebook()
    for number in numbers:
        notebook.concluded(number, Applied.YES)
    return notebook


def test_what_nobody_touched_is_as_it_was() -> None:
    assert after(1, 2, 3).look(seen(1, 2, 3)).kind == "as it was"


def test_what_may_be_there_may_also_be_missing() -> None:
    for trail in ((1,), (1, 2)):
        notebook = after(1)
        notebook.concluded(2, Applied.MAYBE)
        assert not notebook.look(seen(*trail)).is_violation


@pytest.mark.parametrize(
    ("trail", "kind"),
    [
        ((1, 2), "fallen back, though nobody did anything"),
        ((1, 2, 3, 3), "ran twice"),
        ((1, 2, 3, 9), "there, though it was never run"),
    ],
)
def test_a_state_that_cannot_be_is_seen(trail: tuple[int, ...], kind: str) -> None:
    finding = after(1, 2, 3).look(seen(*trail))
    assert (finding.kind, finding.is_violation) == (kind, True)


def test_what_was_cancelled_must_not_be_there() -> None:
    notebook = after(1)
    notebook.concluded(2, Applied.NO)
    assert notebook.look(seen(1, 2)).is_violation


def test_variables_of_two_states_are_a_mixture() -> None:
    finding = after(1, 2).look(Seen((1, 2), 2, {"a": 1, "b": 1}))
    assert (finding.kind, finding.is_violation) == ("a mixture of states", True)


def test_an_acknowledged_checkpoint_comes_back_or_its_loss_is_told() -> None:
    for told, is_violation in ((False, True), (True, False)):
        notebook = after(1, 2)
        notebook.acknowledge(2)
        notebook.excuse("killed")
        if told:
            notebook.tell("2 is lost")
        assert notebook.look(seen(1)).is_violation is is_violation


def test_what_was_not_saved_may_go_but_is_told() -> None:
    for told in (False, True):
        notebook = after(1, 2)
        notebook.acknowledge(1)
        notebook.excuse("killed")
        if told:
            notebook.tell("what changed is lost")
        assert notebook.look(seen(1)).is_violation is not told


def test_what_is_told_as_lost_is_not_there() -> None:
    for lost, is_violation in (("cell-2", True), ("2 executions, cell-3", False)):
        notebook = after(1, 2, 3)
        notebook.excuse("killed")
        by = lost if "," in lost else f"execution {lost}"
        notebook.tell(f"back from checkpoint 1; what changed since then is lost, by {by} the last of them")
        assert notebook.look(seen(1, 2)).is_violation is is_violation


def test_a_look_is_where_the_next_begins() -> None:
    notebook = after(1, 2)
    notebook.excuse("killed")
    notebook.tell("lost")
    notebook.look(seen(1))
    notebook.concluded(3, Applied.YES)
    assert notebook.look(seen(1)).kind == "fallen back, though nobody did anything"


def test_what_was_given_up_may_be_gone_and_a_late_word_on_it_says_nothing() -> None:
    notebook = after(1, 2, 3)
    notebook.acknowledge(1)
    notebook.acknowledge(3)
    notebook.give_up(1, 3, is_sure=True)
    notebook.acknowledge(2)
    assert not notebook.look(seen(1)).is_violation
    notebook.excuse("killed")
    assert notebook.look(seen()).kind == "acknowledged and gone, not told"


def test_only_what_is_shown_of_a_long_trail_is_judged() -> None:
    notebook = after(1, 2, 3)
    notebook.acknowledge(1)
    assert not notebook.look(Seen((2, 3), 3, {"a": 3})).is_violation


def test_readers_get_the_same_and_nothing_twice() -> None:
    reading = Reading()
    reading.output(0, b"a", is_mark=False)
    reading.output(1, b"b", is_mark=False)
    reading.begin(1)
    reading.output(1, b"b", is_mark=False)
    reading.end("ok", 2)
    assert not reading.faults
    assert reading.is_complete
    reading.begin(0)
    reading.output(0, b"other", is_mark=False)
    reading.output(0, b"a", is_mark=False)
    reading.end("died", 1)
    assert len(reading.faults) == 3


def test_a_gap_must_be_marked() -> None:
    for is_mark in (False, True):
        reading = Reading()
        reading.output(0, b"a", is_mark=False)
        reading.output(5, b"f", is_mark=is_mark)
        reading.end("ok", 6)
        assert bool(reading.faults) is not is_mark
        assert not reading.is_complete
