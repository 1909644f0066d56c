"""The states that are saved, what is seen of them, and the table; with dill, the peer that is at hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from bench.beside_saving import Saving
from bench.checkpoint_look import look
from bench.checkpoint_states import State, states
from bench.checkpoint_systems import Peer, compare, measure_peer
from bench.checkpoint_table import Column, new_row, table
from bench.parts import Found
from bench.parts.checkpoints import judge
from bench.peers import BenchError
from bench.rows import Row
from bench.run import report

STATES = {state.name: state for state in states(quick=True)}


def made(state: State) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    for cell in state.cells:
        exec(cell, namespace)
    return namespace


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
def test_a_state_has_its_variables_and_its_change_is_seen(state: State) -> None:
    namespace = made(state)
    # A generator goes on when it is looked at.
    names = [name for name in state.names if name not in ("steps", "shift")]
    before = look(namespace, names)
    assert list(before) == names
    assert look(namespace, names) == before
    exec(state.change, namespace)
    changed = look(namespace, names)
    assert {name for name in names if before[name] != changed[name]} in ({"x"}, {"v8"}, {"a", "view"})
    if state.rewrite:
        exec(state.rewrite, namespace)
        assert look(namespace, names) != changed
    assert eval(state.first, namespace) is not None
    assert set(state.names) <= set(namespace)


def test_the_notebook_has_twenty_cells() -> None:
    assert len(STATES["20-cell notebook"].cells) == 20


def test_states_that_have_to_be_quick_say_so_in_their_names() -> None:
    full = [state.name for state in states(quick=False)]
    assert full[:5] == [
        "1 MB array",
        "100 MB array",
        "1 GB array",
        "2,000,000 x 8 frame",
        "1,000,000 small objects",
    ]
    assert not set(full[1:6]) & set(STATES)


def test_a_copy_is_not_the_variable_that_it_was() -> None:
    namespace = made(STATES["20-cell notebook"])
    names = ["a", "view", "b", "same", "words", "both"]
    before = look(namespace, names)
    namespace["view"] = namespace["view"].copy()
    namespace["same"] = namespace["same"].copy()
    after = look(namespace, names)
    assert {name for name in names if before[name] != after[name]} == {"a", "view", "b", "same"}


def test_a_function_that_has_lost_its_variable_is_seen() -> None:
    namespace = made(next(state for name, state in STATES.items() if "function" in name))
    before = look(namespace, ["shift"])
    del namespace["first"]
    assert look(namespace, ["shift"]) != before


def test_what_is_missing_is_wrong_unless_it_was_told() -> None:
    before = {"kept": "1", "changed": "1", "told": "1", "lost": "1", "told and wrong": "1"}
    after = {"kept": "1", "changed": "2", "told and wrong": "2"}
    found = compare(before, after, frozenset({"told", "told and wrong"}))
    assert found == {Column.RIGHT: [1], Column.LEFT_OUT: [1], Column.WRONG: [3]}


def test_a_peer_saves_in_one_process_and_loads_in_another() -> None:
    state = STATES["20-cell notebook"]
    found = measure_peer(Path(sys.executable), "dill", state)
    assert set(found) == set(Column)
    assert len(found[Column.PAUSE]) == 20
    # It loses that a view is one.
    assert (found[Column.RIGHT], found[Column.WRONG]) == ([9], [2])
    arrays = 2 * 2 * 1_048_576 / 1e6
    assert arrays < found[Column.BYTES_SAME][0] < 1.5 * arrays
    assert found[Column.BYTES][0] > 10 * arrays
    assert 0 < found[Column.RESTORE][0] < found[Column.RESTORE_WHOLE][0]


def test_a_peer_that_cannot_save_says_why(tmp_path: Path) -> None:
    with (
        Peer(Path(sys.executable), "dill", str(tmp_path)) as peer,
        pytest.raises(BenchError, match="dill: TypeError: cannot pickle 'generator' object"),
    ):
        peer.ask(cell="steps = (n for n in range(10))")


def test_a_save_is_over_when_another_head_is_there(tmp_path: Path) -> None:
    head = tmp_path / "HEAD"
    head.write_text("1")
    saving = Saving(head)
    assert not saving.is_over()
    (tmp_path / "new").write_text("2")
    (tmp_path / "new").rename(head)
    assert saving.is_over()


def rows() -> list[Row]:
    found = []
    for state, times in (("8 MB array", 1.0), ("20-cell notebook", 3.0)):
        for column in Column:
            row = new_row(state, column)
            zero = column in (Column.LEFT_OUT, Column.WRONG)
            row.values("cellblock", "cellblock").extend([0.0] if zero else [0.2 * times, 0.4 * times])
            row.values("dill", "peer").append(20.0)
            row.values("kishu", "peer").append(0.0 if zero else 1.0)
            found.append(row)
    return found


def test_the_table_has_a_line_for_each_system_and_the_rows_are_nowhere_else() -> None:
    measured = rows()
    measured[0].absent["cloudpickle"] = measured[1].absent["cloudpickle"] = "no such thing"
    lines = report(Found(rows=measured)).splitlines()
    assert lines[1].startswith("8 MB array")
    assert lines[1].split()[3:5] == ["0.30…0.40", "0.30…0.40"]
    assert lines[1].split()[-4:] == ["0", "0", "0", "cellblock"]
    assert [line.split()[-1] for line in lines[1:7]] == 2 * ["cellblock", "dill", "kishu"]
    # Once, though two columns have it.
    assert lines[7:] == ["", "not measured: 8 MB array, cloudpickle: no such thing"]


def test_beside_other_rows_they_are_shown_once_too() -> None:
    other = Row("checkpoints", "1+1 beside it")
    other.values("cellblock", "cellblock").append(1.0)
    general, own = report(Found(rows=[*rows(), other])).split("\n\n")
    assert [line.split()[-1] for line in general.splitlines()] == ["engine", "cellblock"]
    assert own.startswith("saved")


def test_what_is_of_other_things_is_not_in_the_table() -> None:
    assert table([Row("checkpoints", "1+1 beside it")]) == ""


def test_goals_are_set_where_they_are_hardest() -> None:
    measured = rows()
    judge(measured, STATES["8 MB array"])
    goals = {goal.what: goal.met for row in measured for goal in row.goals}
    assert goals["8 MB array: pause seen by the user, cellblock, p50 in ms"]
    assert goals["20-cell notebook: pause, one change, cellblock, × kishu"]
    assert not goals["20-cell notebook: written, one change, cellblock, p50 in MB"]
    assert goals["8 MB array: restore → first use, cellblock, × peer"]
    wrong = [row for row in measured if row.cell == ("20-cell notebook", Column.WRONG.name)]
    wrong[0].engines["cellblock"].every.append(1.0)
    judge(measured, STATES["8 MB array"])
    assert [goal.met for goal in wrong[0].goals] == [False]
