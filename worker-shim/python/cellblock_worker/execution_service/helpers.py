"""The functions that every notebook of the service has."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable
from typing import Any

from cellblock_worker.errors import clipped

from .capture import Capture
from .cells import text
from .packages import class_name

# Objects that `display.results` keeps alive until the next run.
RESULTS = 1_000
PREVIEW_CHARACTERS = 100_000


def safe_timedelta(**parts: Any) -> datetime.timedelta:
    """`timedelta(...)` that takes numpy's numbers as well."""
    return datetime.timedelta(**{name: _native(value) for name, value in parts.items()})


def to_python_type(value: Any) -> Any:
    """numpy's and pandas' values as Python's: arrays and Series as lists, a DataFrame as its records."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return value.tolist()
    if pandas is not None and isinstance(value, pandas.Series):
        return value.tolist()
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return value.to_dict("records")
    return _native(value)


def safe_int(value: Any) -> int:
    """`int(value)` that takes numpy's numbers as well."""
    return int(_native(value))


def safe_float(value: Any) -> float:
    """`float(value)` that takes numpy's numbers as well."""
    return float(_native(value))


def make_display(
    capture: Capture, original: Callable[..., Any], results: list[dict[str, Any]]
) -> Callable[..., Any]:
    """The `display` of the service's runs. Outside of them it is IPython's, `original`."""

    def display(*objs: Any, label: Any = None, **options: Any) -> Any:
        """Show an object in the result of this cell, as `display(obj, "Table 1: What it is")`.

        Without a label it is numbered. Returns the object. IPython's own options work too.
        """
        if not capture.is_on():
            return original(*objs, **options)
        shown = list(objs)
        if not shown and "obj" in options:
            shown = [options.pop("obj")]
        if len(shown) == 2 and label is None and (isinstance(shown[1], str) or shown[1] is None):
            label = shown.pop()
        if len(shown) != 1 or options:
            return original(*shown, **options)
        obj, label = shown[0], None if label is None else text(label)
        results.append({"object": obj, "label": label, "type": class_name(type(obj))})
        del results[:-RESULTS]
        _preview(obj, label)
        capture.display(obj, label)
        return obj

    vars(display)["results"] = results
    return display


def _preview(obj: Any, label: str | None) -> None:
    pandas = sys.modules.get("pandas")
    is_frame = pandas is not None and isinstance(obj, pandas.DataFrame)
    if is_frame or label:
        print(f"\n{label or '[Will be auto-numbered]'}:")
        print(clipped(text(obj, PREVIEW_CHARACTERS), PREVIEW_CHARACTERS))


def _native(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
