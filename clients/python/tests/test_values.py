"""Values in and out, and what an editor asks, with the real cellblockd."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import cellblock
from cellblock import AsyncClient, LocalSupervisor, Notebook

SECONDS = 60.0


def run(notebook: Notebook, code: str) -> cellblock.Completed:
    return notebook.execute(code).result(timeout=SECONDS).raise_for_error()


def test_json_values_come_back_as_they_went(notebook: Notebook) -> None:
    value = {"a": [1, 2.5, None, True], "ä": "\x00\u2028é", "deep": [[[[]]]], "big": 1 << 80}
    notebook.put("value", value, timeout=SECONDS)
    assert run(notebook, "print(type(value).__name__, value['big'] == 1 << 80)").stdout == "dict True\n"
    assert notebook.get("value", timeout=SECONDS) == value
    # It is a variable like any other, and no code was run for it: the count is where it was.
    assert "value" in [variable.name for variable in notebook.variables()]
    assert run(notebook, "1").outcome.execution_count == 2


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("{'a': [0, {1}]}", r"`v\['a'\]\[1\]` is of type set"),
        ("float('nan')", "`v` is nan"),
        ("{1: 2}", "`v` has the key 1"),
        ("(lambda a: a.append(a) or a)([])", r"`v\[0\]` contains itself"),
        ("'\\ud800'", "half of a surrogate pair"),
        ("__import__('pandas').DataFrame()", "ask for it as arrow"),
        ("print", "of type builtin_function_or_method"),
    ],
)
def test_what_has_no_json_form_is_refused_by_the_part_that_has_none(
    notebook: Notebook, expression: str, what: str
) -> None:
    run(notebook, f"v = {expression}")
    with pytest.raises(cellblock.CannotCross, match=what):
        notebook.get("v", timeout=SECONDS)


def test_table_crosses_as_arrow_and_comes_back_the_same(notebook: Notebook) -> None:
    run(
        notebook,
        "import pandas as pd\n"
        "df = pd.DataFrame({'n': [1, 2], 't': pd.to_datetime(['2026-01-01', None]), 's': ['x', None]},"
        " index=pd.Index([5, 6], name='key'))",
    )
    stream = notebook.get_arrow("df", timeout=SECONDS)
    assert stream[:4] == b"\xff\xff\xff\xff", "the mark that begins a message of an IPC stream"
    notebook.put_arrow("again", stream, timeout=SECONDS)
    assert (
        run(notebook, "pd.testing.assert_frame_equal(df, again)\nprint(again.index.name)").stdout == "key\n"
    )
    run(notebook, "import polars\npl = polars.DataFrame({'a': [1, 2, 3]})")
    notebook.put_arrow("from_polars", notebook.get_arrow("pl", timeout=SECONDS), timeout=SECONDS)
    assert run(notebook, "print(from_polars['a'].sum())").stdout == "6\n"


def test_each_way_to_fail_has_its_own_exception(notebook: Notebook) -> None:
    run(notebook, "x = [1]\nlarge = 'a' * (49 << 20)")
    with pytest.raises(cellblock.UnknownName, match="'nobody'"):
        notebook.get("nobody", timeout=SECONDS)
    with pytest.raises(cellblock.BadName, match="'class'"):
        notebook.put("class", 1, timeout=SECONDS)
    with pytest.raises(cellblock.BadValue, match="no JSON form"):
        notebook.put("y", {1, 2}, timeout=SECONDS)
    with pytest.raises(cellblock.BadValue, match="not an Arrow IPC stream"):
        notebook.put_arrow("y", b"PK\x03\x04", timeout=SECONDS)
    with pytest.raises(cellblock.CannotCross, match="only tables"):
        notebook.get_arrow("x", timeout=SECONDS)
    with pytest.raises(cellblock.ValueTooLarge, match="take it in parts"):
        notebook.get("large", timeout=SECONDS)
    # None of it bound a name, or ended the worker.
    assert run(notebook, "print('y' in globals(), x)").stdout == "False [1]\n"


def test_a_package_that_is_missing_is_named_with_profile_and_cure(notebook: Notebook) -> None:
    run(notebook, "import sys\nx = 1\nsys.modules['pyarrow'] = None")
    with pytest.raises(cellblock.MissingPackage, match=r"profile `default`.* -m pip install pyarrow"):
        notebook.get_arrow("x", timeout=SECONDS)


def test_whole_numbers_beside_a_null_stay_whole(notebook: Notebook) -> None:
    run(notebook, "import pyarrow as pa\nt = pa.table({'a': [2**60 + 1, None], 'l': [[1, None], None]})")
    notebook.put_arrow("df", notebook.get_arrow("t", timeout=SECONDS), timeout=SECONDS)
    assert run(notebook, "print(df['a'][0], df['a'].isna().tolist(), list(df['l'][0]))").stdout == (
        "1152921504606846977 [False, True] [1, None]\n"
    )


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import polars\nv = polars.DataFrame({'a': [object()]})", "Python objects"),
        ("import pyarrow as pa\nv = pa.table({'a': [1]}).to_reader()", "only once"),
        ("import numpy\nv = numpy.arange(3)", "only tables"),
    ],
)
def test_what_has_no_exact_form_in_arrow_is_refused(notebook: Notebook, code: str, what: str) -> None:
    run(notebook, code)
    with pytest.raises(cellblock.CannotCross, match=what):
        notebook.get_arrow("v", timeout=SECONDS)


@pytest.mark.parametrize("value", [{1: "a", "1": "b"}, {"a": [{None: 1}]}])
def test_keys_that_are_no_texts_are_refused_before_anything_is_sent(
    notebook: Notebook, value: object
) -> None:
    with pytest.raises(cellblock.BadValue, match="is no text"):
        notebook.put("v", value, timeout=SECONDS)


def test_a_name_is_the_one_that_code_reads(notebook: Notebook) -> None:
    notebook.put("ﬁ", 5, timeout=SECONDS)
    assert run(notebook, "print(ﬁ, fi)").stdout == "5 5\n"
    assert notebook.get("ﬁ", timeout=SECONDS) == 5


def test_more_than_a_worker_can_be_told_is_refused_and_the_worker_stays(notebook: Notebook) -> None:
    run(notebook, "x = 1")
    with pytest.raises(cellblock.TooLarge, match="a worker takes"):
        notebook.execute("1", user_expressions={"q": "a" * 300_000}).result(timeout=SECONDS)
    with pytest.raises(cellblock.ValueTooLarge):
        notebook.get("a" * 900_000, timeout=SECONDS)
    assert run(notebook, "print(x)").stdout == "1\n"


ENDLESS = """
class Endless:
    def __arrow_c_stream__(self, schema=None):
        while True:
            pass
endless = Endless()
"""


def test_value_that_never_comes_can_be_interrupted_and_the_variables_stay(notebook: Notebook) -> None:
    run(notebook, ENDLESS)
    ended: list[BaseException] = []

    def get() -> None:
        try:
            notebook.get_arrow("endless", timeout=SECONDS)
        except cellblock.CellblockError as error:
            ended.append(error)

    getting = threading.Thread(target=get)
    getting.start()
    until = time.monotonic() + SECONDS
    while getting.is_alive() and time.monotonic() < until:
        # Again and again: it may not have begun yet.
        notebook.interrupt()
        getting.join(0.05)
    [error] = ended
    assert isinstance(error, cellblock.ExecutionFailed)
    assert isinstance(error.outcome.end, cellblock.Interrupted)
    assert run(notebook, "print('endless' in globals())").stdout == "True\n"


def test_asyncio_has_the_same(supervisor: LocalSupervisor) -> None:
    async def work() -> None:
        async with await AsyncClient.connect(supervisor.socket_path) as client:
            notebook = await client.open("async-values")
            await notebook.put("v", [1, {"a": None}])
            assert await notebook.get("v") == [1, {"a": None}]
            with pytest.raises(cellblock.UnknownName):
                await notebook.get_arrow("nobody")
            assert [variable.preview for variable in await notebook.variables()] == ["[1, {…}]"]
            await notebook.delete()

    asyncio.run(work())
