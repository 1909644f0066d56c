"""The names a notebook of the service begins with, its seed, clearing, and what its variables are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .harness import Worker
from .service import Service

HELPERS = "timedelta datetime date safe_timedelta to_python_type safe_int safe_float display".split()
MODULES = "pd np plt px go sns stats".split()


@pytest.fixture
def service(worker: Worker) -> Service:
    """A worker of this test's own."""
    return Service(worker)


@pytest.fixture(scope="module")
def used(shared: Worker) -> Service:
    """A worker that tests share which leave no names behind that another looks at."""
    return Service(shared)


# Initial names.


def test_the_initial_names_are_there_and_are_no_changes(service: Service) -> None:
    run = service.run(f"print([n for n in {HELPERS + MODULES} if n not in globals()])\nx = 1")
    assert run.stdout == "[]\n"
    assert run.names("added") == ["x"]
    run = service.run(
        "print(pd.__name__, np.__name__, plt.__name__, safe_int(np.int64(3)), safe_float(np.float32(.5)),"
        " to_python_type(np.arange(2)), to_python_type(pd.DataFrame({'a': [1]})), to_python_type(np.int8(4)),"
        " safe_timedelta(days=np.int64(2)))"
    )
    assert run.stdout == "pandas numpy matplotlib.pyplot 3 0.5 [0, 1] [{'a': 1}] 4 2 days, 0:00:00\n"
    assert (run.names("added"), run.names("changed")) == ([], [])


def test_modules_at_hand_are_the_modules_themselves(service: Service) -> None:
    run = service.run("import sys\nprint(pd is sys.modules['pandas'], np is sys.modules['numpy'])")
    assert run.stdout == "True True\n"


def test_a_module_is_imported_where_no_cell_mentions_its_name(service: Service) -> None:
    run = service.run(
        "import sys\nlazy = globals()['p' + 'd']\nprint('pandas' in sys.modules)\n"
        "frame = lazy.DataFrame({'a': [1]})\nprint(isinstance(frame, lazy.DataFrame))\n"
        "print(globals()['p' + 'd'] is sys.modules['pandas'], 'DataFrame' in dir(lazy), repr(lazy)[:16])"
    )
    assert run.stdout == "False\nTrue\nTrue True <module 'pandas'\n"


def test_an_attribute_that_is_set_is_the_modules(service: Service) -> None:
    run = service.run("lazy = globals()['p' + 'd']\nlazy.mine = 1\nimport pandas\nprint(pandas.mine)")
    assert run.stdout == "1\n"


def test_lazy_modules_need_no_import(service: Service) -> None:
    run = service.run("print(stats.norm.cdf(0), type(go.Figure()).__name__)")
    assert run.stdout == "0.5 Figure\n"


def test_an_import_of_the_user_is_a_name_of_the_user(service: Service) -> None:
    assert service.run("import math as pd").names("added") == ["pd"]
    assert service.run("from scipy import stats").names("added") == ["stats"]


def test_what_the_user_binds_is_never_undone(service: Service) -> None:
    service.run("date = '2024-01-01'\npd = None\nstats = {'a': 1}\ndel px")
    run = service.run("print(date, pd, stats, 'px' in globals())")
    assert run.stdout == "2024-01-01 None {'a': 1} False\n"
    assert service.run("from scipy import stats\nprint(stats.norm.cdf(0))").stdout == "0.5\n"


def test_names_of_other_code_are_not_overwritten(worker: Worker) -> None:
    worker.run("date = 'mine'")
    assert Service(worker).run("print(date)").stdout == "mine\n"


def test_indented_imports_and_failing_ones_work(used: Service) -> None:
    run = used.run("try:\n    import nothing_like_it as sns\nexcept ImportError:\n    sns = None\nprint(sns)")
    assert run.stdout == "None\n"


def test_display_imported_from_ipython_is_the_helper(service: Service) -> None:
    run = service.run("before = display\nfrom IPython.display import display\nprint(display is before)")
    assert run.stdout == "True\n"


@pytest.mark.parametrize("use", ["import notapkg", "import notapkg.sub", "globals()['p' + 'x'].bar()"])
def test_a_missing_package_names_the_cure(service: Service, use: str) -> None:
    hide = "import sys\nsys.modules['plotly'] = None\n" if "bar" in use else ""
    run = service.try_(hide + use)
    error = run.end["error"]
    package = "plotly" if hide else "notapkg"
    assert error["name"] == "ModuleNotFoundError"
    assert f"\n\nHINT: Missing Python package '{package}'. " in error["value"]
    assert f"pip install {package}" in error["value"]
    assert run.result.only("error").body["value"] == error["value"]


def test_a_module_that_a_package_lacks_gets_no_hint(service: Service) -> None:
    assert "HINT" not in service.try_("import json.nothing").end["error"]["value"]


def test_other_code_gets_no_hint_of_the_service(service: Service) -> None:
    service.run("x = 1")
    assert "HINT" not in service.worker.run("import notapkg").end["error"]["value"]


# Seeds.


def test_a_seed_is_set_once_and_its_stream_goes_on(service: Service) -> None:
    first = service.run("import random\nprint(random.random(), np.random.rand())", seed=5).stdout
    second = service.run("print(random.random(), np.random.rand())", seed=5).stdout
    assert first != second
    assert service.ask("seed", seed=5) == {}
    assert service.run("print(random.random(), np.random.rand())", seed=5).stdout == first
    assert service.run("print(_notebook_execution_seed)").stdout == "5\n"


def test_numpy_is_seeded_whenever_it_comes(worker: Worker) -> None:
    service = Service(worker)
    service.run("import sys\nassert 'numpy' not in sys.modules", seed=5)
    drawn = service.run("import numpy\nprint(numpy.random.rand())").stdout
    service.ask("seed", seed=5)
    assert service.run("print(numpy.random.rand())").stdout == drawn


# Clearing.


def test_clearing_removes_data_and_brings_the_initial_names_back(service: Service) -> None:
    first = service.run(
        "x = 1\nimport math\nfrom math import sqrt\ndf = pd.DataFrame({'a': [1]})\ndate = None\n"
        "def f(): pass\nclass C: pass\nc = C()\nprint(np.random.rand())\ndisplay(df)"
    )
    service.clear()
    run = service.run(
        "print([n for n in ('x', 'df', 'f', 'C', 'c') if n in globals()], date.__name__, math.pi > sqrt(4))\n"
        "print(np.random.rand())\nimport plotly.express as px\ndisplay(pd.DataFrame({'a': [1]}))"
    )
    kept, drawn, *_ = run.stdout.splitlines()
    assert kept == "[] date True"
    assert drawn == first.stdout.splitlines()[0]
    assert (run.of("table")[-1]["label"], run.notices) == ("Table 1", [])


def test_a_full_clearing_removes_imports_too(service: Service) -> None:
    service.run("import math\nimport pandas as mine")
    service.clear(keep_imports=False)
    assert service.run("print('math' in globals(), 'mine' in globals(), pd.__name__)").stdout == (
        "False False pandas\n"
    )


def test_clearing_lets_memory_go(service: Service) -> None:
    service.run("import weakref\nclass Big: pass\nbig = Big()\nbig.self = big\nref = weakref.ref(big)")
    service.worker.run("import builtins\nbuiltins.kept = ref\nbig")
    service.clear()
    assert service.run("print(kept())").stdout == "None\n"


# Variables.


def test_variables_come_in_six_categories(service: Service) -> None:
    service.run(
        "i = 1\nf = 2.5\nbig = 12345.0\ntiny = 0.0004\nnan = float('nan')\nn8 = np.uint8(3)\nflag = True\n"
        "df = pd.DataFrame({'a': [1], 5: ['x']})\nd = {'k': 1}\nar = np.zeros((2, 3))\nse = pd.Series([1])\n"
        "li = [1]\ns = 't'\nn = None\n_p = 1\ndef fun(): pass\nclass Cls: pass\nobj = Cls()\nimport math as m"
    )
    found = service.ask("variables")
    assert found["numbers"] == {
        "i": {"type": "int", "value": 1, "display": "1"},
        "f": {"type": "float", "value": 2.5, "display": "2.50"},
        "big": {"type": "float", "value": 12345.0, "display": "1.23e+04"},
        "tiny": {"type": "float", "value": 0.0004, "display": "4.00e-04"},
        "nan": {"type": "float", "value": None, "display": "nan"},
        "n8": {"type": "uint8", "value": 3, "display": "3"},
    }
    (frame,) = found["dataframes"].values()
    assert frame["dtypes"].pop("a") == "int64"
    del frame["dtypes"]
    assert frame == {
        "type": "DataFrame",
        "shape": [1, 2],
        "columns": ["a", 5],
        "display": "DataFrame (1, 2)",
    }
    assert found["dicts"] == {"d": {"type": "dict", "size": 1, "display": "dict (1 items)"}}
    assert found["arrays"] == {
        "ar": {"type": "ndarray", "shape": [2, 3], "display": "ndarray (2, 3)"},
        "se": {"type": "Series", "shape": [1], "display": "Series (1,)"},
        "li": {"type": "list", "size": 1, "display": "list (1 items)"},
    }
    assert set(found["modules"]) == {"pd", "np", "plt", "m"}
    assert found["modules"]["m"] == {"type": "module", "module_name": "math", "display": "math"}
    assert found["other"] == {
        "flag": {"type": "bool", "display": "bool"},
        "s": {"type": "str", "display": "str"},
        "obj": {"type": "Cls", "display": "Cls"},
    }


def test_lazy_modules_are_variables_once_they_are_used(service: Service) -> None:
    service.run("x = 1")
    assert set(service.ask("variables")["modules"]) == {"pd", "np", "plt"}
    service.run("stats.norm")
    assert service.ask("variables")["modules"]["stats"]["module_name"] == "scipy.stats"


def test_variables_run_no_user_code(service: Service) -> None:
    service.run(
        "class Meta(type):\n    __name__ = property(lambda c: print('name'))\n"
        "    def __instancecheck__(c, o): print('instance')\n"
        "class Loud(metaclass=Meta):\n    shape = property(lambda s: print('shape'))\n"
        "    columns = dtype = shape\n    def __len__(s): print('len')\n    __class__ = shape\n"
        "    def __getattr__(s, n): print('attribute', n)\n"
        "class Frame(pd.DataFrame):\n    shape = columns = dtypes = property(lambda s: print('frame'))\n"
        "loud = Loud()\nframe = Frame({'a': [1]})\nclass L(list):\n    def __len__(s): print('len')\nli = L()"
    )
    result = service.worker.run(
        "", echo="none", task={"plugin": {"name": "execution_service", "arguments": '{"do": "variables"}'}}
    )
    assert result.stream("stdout") == ""
    found = json.loads(result.only("display").part("application/vnd.cellblock.answer+json"))
    assert set(found["other"]) == {"loud", "li"}
    assert found["dataframes"]["frame"]["columns"] == ["a"]


@pytest.mark.parametrize(
    ("expression", "content"),
    [
        (
            "pd.DataFrame({'a': [1.0, None]})",
            {
                "type": "DataFrame",
                "shape": [2, 1],
                "columns": ["a"],
                "dtypes": {"a": "float64"},
                "preview": [{"a": 1.0}, {"a": None}],
                "preview_rows": 2,
                "total_rows": 2,
            },
        ),
        (
            "pd.Series([1, 2], name='s')",
            {
                "type": "Series",
                "shape": [2],
                "dtype": "int64",
                "name": "s",
                "preview": [1, 2],
                "preview_size": 2,
                "total_size": 2,
            },
        ),
        (
            "np.array([[1.0, np.inf]])",
            {
                "type": "ndarray",
                "shape": [1, 2],
                "dtype": "float64",
                "preview": [1.0, "Infinity"],
                "preview_size": 2,
                "total_size": 2,
            },
        ),
        ("(1, 'a')", {"type": "tuple", "preview": [1, "a"], "preview_size": 2, "total_size": 2}),
        (
            "{1: object}",
            {"type": "dict", "preview": {"1": "<class 'object'>"}, "preview_size": 1, "total_size": 1},
        ),
        ("'x' * 2000", {"type": "str", "preview": "x" * 1000, "preview_size": 1000, "total_size": 2000}),
        ("2.5", {"type": "float", "value": "2.5"}),
        ("None", {"type": "NoneType", "value": "None"}),
    ],
)
def test_the_content_of_a_variable(used: Service, expression: str, content: Any) -> None:
    used.run(f"v = {expression}")
    assert used.ask("variable", name="v") == content


@pytest.mark.parametrize(
    ("expression", "preview", "total", "shown"),
    [
        ("pd.DataFrame({'a': range(500)})", "preview_rows", "total_rows", 100),
        ("pd.Series(range(5000))", "preview_size", "total_size", 1000),
        ("np.zeros((100, 50))", "preview_size", "total_size", 1000),
        ("list(range(5000))", "preview_size", "total_size", 100),
        ("dict.fromkeys(range(5000))", "preview_size", "total_size", 100),
    ],
)
def test_the_content_of_a_large_variable_is_its_beginning(
    used: Service, expression: str, preview: str, total: str, shown: int
) -> None:
    used.run(f"v = {expression}")
    content = used.ask("variable", name="v")
    assert (content[preview], len(content["preview"])) == (shown, shown)
    assert content[total] in (500, 5000)


def test_a_variable_that_is_not_there_is_said_so(used: Service) -> None:
    assert used.ask("variable", name="nope") == {"error": "Variable 'nope' not found"}


def test_questions_run_no_code_and_change_nothing(used: Service) -> None:
    used.run("q = 1")
    result = used.worker.run(
        "q = 2",
        echo="none",
        task={"plugin": {"name": "execution_service", "arguments": '{"do": "variables"}'}},
    )
    assert result.finished["names"] == {"added": [], "changed": [], "removed": []}
    assert used.run("print(q)").stdout == "1\n"


@pytest.mark.parametrize(
    "arguments", ["{}", "[]", '{"do": "fly"}', '{"do": "seed"}', '{"do": "run", "cell": "x"}']
)
def test_bad_arguments_are_refused(used: Service, arguments: str) -> None:
    result = used.worker.run("x", task={"plugin": {"name": "execution_service", "arguments": arguments}})
    assert result.end["error"]["name"] == "BadArguments"
    assert used.run("print(1)").stdout == "1\n"


def test_an_import_of_what_is_there_is_redundant_in_the_first_cell_already(service: Service) -> None:
    run = service.run("import numpy as np\nx = np.arange(2).sum()\nprint(x)\n")
    assert run.stdout == "1\n"
    assert run.report["autofix_report"]["changes"][0]["rule_id"] == "DA1101"
    assert "import numpy" not in run.report["autofix_report"]["fixed_code"]
