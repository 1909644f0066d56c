"""Any object as one captured thing, by the first rule that fits. What an object does wrong stays in here."""

from __future__ import annotations

import json
import types
from typing import TYPE_CHECKING, Any

from . import figures, interactive, natural, tables
from .cells import Plain, items_of, length_of, text
from .entries import Entry, Image, Shown
from .packages import class_name, comes_from

if TYPE_CHECKING:
    from cellblock_worker.shell import Shell

# A longer list is a table.
LISTED = 100
# A longer text is shown by its beginning and its end.
TEXT_CHARACTERS = 2_000
# Of what a model or a dictionary holds.
ITEMS = 100_000


def convert(shell: Shell, obj: Any) -> Entry:
    """The entry for an object that does not display itself."""
    try:
        return (
            _of_package(obj)
            or _described(shell, obj)
            or _array(obj)
            or _container(obj)
            or _model(obj)
            or _self_described(shell, obj)
            or _text(obj)
        )
    except Exception as failure:
        return failed(obj, failure)


def failed(obj: Any, failure: Exception) -> Entry:
    """What stands in for an object that cannot be shown."""
    return Shown(
        "text",
        f"Error displaying object: {text(failure)}\n\nObject type: {class_name(type(obj))}",
        default="Error",
    )


def _of_package(obj: Any) -> Entry | None:
    if interactive.is_figure(obj):
        return interactive.entry(obj, "figure")
    if tables.is_frame(obj):
        return tables.table(obj, tables.DISPLAYED)
    if comes_from(obj, "pandas", "Series"):
        return tables.series_table(obj)
    if figures.is_savable(obj):
        return Image(figures.png(obj))
    return None


def _described(shell: Shell, obj: Any) -> Entry | None:
    # Types whose HTML nobody has asked for are the commonest ones.
    if type(obj) in (str, int, float, bool, dict, list, tuple, type(None), types.FunctionType):
        return None
    markup = natural.html_of(shell, obj)
    return None if markup is None else Shown("html", markup, numbered="Table")


def _array(obj: Any) -> Entry | None:
    if comes_from(obj, "numpy", "ndarray"):
        if obj.ndim not in (1, 2) or not _has_pandas():
            return _many_dimensions(obj)
        if obj.ndim == 2 or obj.dtype.names:
            import pandas

            return tables.table(pandas.DataFrame(obj), tables.DISPLAYED)
        return tables.listing_table(obj)
    return tables.listing_table(obj) if comes_from(obj, "pandas", "Index") else None


def _many_dimensions(array: Any) -> Entry:
    first = text(array.ravel()[:100], show=repr)
    more = f"\n... ({array.size - 100} more elements)" if array.size > 100 else ""
    content = f"Array shape: {array.shape}\nDtype: {array.dtype}\n\nFirst elements:\n{first}{more}"
    return Shown("text", content, numbered="Table")


def _container(obj: Any) -> Entry | None:
    if not issubclass(type(obj), (dict, list, tuple)):
        return None
    if issubclass(type(obj), dict) or length_of(obj) <= LISTED or not _has_pandas():
        return Shown("json", _json(obj))
    return tables.listing_table(list(items_of(obj)))


def _model(obj: Any) -> Entry | None:
    # Looked for in the class: an object may claim to have any attribute.
    if not all(callable(getattr(type(obj), name, None)) for name in ("fit", "predict")):
        return None
    info: dict[str, Any] = {"model_type": type(obj).__name__, "module": type(obj).__module__}
    for key, attribute in (
        ("parameters", "get_params"),
        ("coefficients", "coef_"),
        ("feature_importances", "feature_importances_"),
    ):
        try:
            value = getattr(obj, attribute)
            info[key] = value() if callable(value) else value.tolist() if hasattr(value, "tolist") else value
        except Exception:  # it is not fitted, or has none
            continue
    return Shown("model", _json(info), default="Model")


def _self_described(shell: Shell, obj: Any) -> Entry | None:
    if comes_from(obj, "PIL.Image", "Image"):
        return Image(natural.png_of(obj))
    parts = natural.bundle_of(shell, obj)
    return natural.entry_of(parts) if parts else None


def _text(obj: Any) -> Entry:
    # Not by `text()`: a `repr` that fails is to be seen as that.
    shown = repr(obj)
    if len(shown) > TEXT_CHARACTERS:
        half = TEXT_CHARACTERS // 2
        omitted = len(shown) - TEXT_CHARACTERS
        shown = f"{shown[:half]}\n\n... ({omitted} chars omitted) ...\n\n{shown[-half:]}"
    return Shown("text", shown)


def _json(value: Any) -> str:
    return json.dumps(Plain(items=ITEMS)(value), ensure_ascii=False, indent=2)


def _has_pandas() -> bool:
    try:
        import pandas  # noqa: F401
    except Exception:
        return False
    return True
