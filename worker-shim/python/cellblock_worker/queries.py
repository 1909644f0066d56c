"""Questions that an editor asks while somebody types. They run only between cells, and not for long."""

from __future__ import annotations

import json
import re
from typing import Any

from . import bundle, names, variables
from .alarm import Alarm, OutOfTime
from .completion_kinds import Kinds
from .shell import Shell

MATCHES = 1_000
MATCH_CHARACTERS = 300
META_BYTES = 96 << 10

# What an answer may take, in seconds: a `__dir__` of the user's may never end.
SECONDS = 1.0


def answer(shell: Shell, query: Any, code: str) -> tuple[Any, bytes]:
    """The wire form of the `Answer`, and its payload. A question never fails: it has no answer then."""
    kind, options = (query, {}) if isinstance(query, str) else next(iter(query.items()))
    try:
        return Alarm(SECONDS).bound(lambda: _ANSWERS[kind](shell, options, code))
    except (Exception, OutOfTime):
        return _empty(kind, options), b""


def _complete(shell: Shell, options: dict[str, Any], code: str) -> tuple[Any, bytes]:
    from IPython.core.completer import provisionalcompleter, rectify_completions

    cursor = min(options["cursor"], len(code))
    with provisionalcompleter():
        found = list(rectify_completions(code, shell.Completer.completions(code, cursor)))
    if not found:
        return _empty("complete", {"cursor": cursor}), b""
    kinds = Kinds(shell.user_ns, code[: found[0].start])
    matches = [
        {"text": match.text, "kind": kinds.of(match.text, match.type)}
        for match in found[:MATCHES]
        if len(match.text) <= MATCH_CHARACTERS
    ]
    wire = {"complete": {"matches": matches, "start": found[0].start, "end": found[0].end}}
    while len(json.dumps(wire)) > META_BYTES:
        del matches[len(matches) // 2 :]
    return wire, b""


def _inspect(shell: Shell, options: dict[str, Any], code: str) -> tuple[Any, bytes]:
    from IPython.utils.tokenutil import token_at_cursor

    name = token_at_cursor(code, min(options["cursor"], len(code)))
    data = dict(shell.object_inspect_mime(name, detail_level=options["detail"]))
    if not shell.enable_html_pager:
        data.pop("text/html", None)
    encoded = bundle.encode(data, None)
    return {"inspect": {"bundle": encoded.wire()}}, encoded.payload


def _is_complete(shell: Shell, _options: dict[str, Any], code: str) -> tuple[Any, bytes]:
    status, spaces = shell.input_transformer_manager.check_complete(code)
    known = status if status in ("complete", "incomplete", "invalid") else "unknown"
    # From IPython it is a number of spaces.
    indent = " " * spaces if isinstance(spaces, int) else re.sub(r"\S.*", "", str(spaces or ""))
    return {"is_complete": {"status": known, "indent": indent if known == "incomplete" else ""}}, b""


def _history(shell: Shell, options: dict[str, Any], _code: str) -> tuple[Any, bytes]:
    last = options["last"]
    inputs = [[count, source] for count, source in shell.inputs[-last:]] if last else []
    # Oldest first; what does not fit is the oldest.
    while inputs and len(json.dumps(inputs)) > META_BYTES:
        del inputs[: (len(inputs) + 1) // 2]
    return {"history": {"inputs": inputs}}, b""


def _variables(shell: Shell, _options: dict[str, Any], _code: str) -> tuple[Any, bytes]:
    found = names.snapshot(shell.user_ns, shell.user_ns_hidden)
    return {"variables": {"variables": variables.listing(found, shell.user_ns)}}, b""


def _empty(kind: str, options: dict[str, Any]) -> Any:
    cursor = options.get("cursor", 0)
    return {
        "complete": {"complete": {"matches": [], "start": cursor, "end": cursor}},
        "inspect": {"inspect": {"bundle": None}},
        "is_complete": {"is_complete": {"status": "unknown", "indent": ""}},
        "history": {"history": {"inputs": []}},
        # Not an empty list: that would say that there are none.
        "variables": "busy",
    }[kind]


_ANSWERS = {
    "complete": _complete,
    "inspect": _inspect,
    "is_complete": _is_complete,
    "history": _history,
    "variables": _variables,
}
