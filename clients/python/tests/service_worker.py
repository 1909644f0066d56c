"""A worker with the service's plug-in, as far as a client sees it: for `FakeDaemon`."""

from __future__ import annotations

import json
from typing import Any

from cellblock._service.reports import MIME as REPORT
from cellblock._service.tasks import ANSWER

from .fake import FakeDaemon, Peer, output

CATEGORIES: dict[str, Any] = {
    name: {} for name in ("dataframes", "modules", "numbers", "dicts", "arrays", "other")
}


def display(peer: Peer, execution: str, seq: int, mime: str, value: Any) -> None:
    """A display of one part."""
    data = value if type(value) is bytes else json.dumps(value).encode()
    parts = [{"mime": mime, "span": {"offset": 0, "length": len(data)}}]
    bundle = {"parts": parts, "metadata": None}
    peer.reply(
        output(execution, seq, {"display": {"bundle": bundle, "display_id": None, "update": False}}), data
    )


def worker(peer: Peer, name: str, content: Any, payload: bytes) -> None:
    """Prints the code, and answers as the plug-in does."""
    if name != "execute":
        peer.reply("done", last=True)
        return
    execution, asked = content["execution"], arguments(content)
    peer.accept(execution)
    match asked["do"]:
        case "run":
            display(peer, execution, 0, REPORT, {"lint_report": None, "refused": None})
            peer.text(execution, 1, payload.decode())
            peer.end(execution, 2)
        case "variables":
            display(peer, execution, 0, ANSWER, CATEGORIES | {"numbers": {"x": {"type": "int"}}})
            peer.end(execution, 1)
        case "variable":
            known = {"type": "int", "value": "1"}
            answer = known if asked["name"] == "x" else {"error": f"Variable '{asked['name']}' not found"}
            display(peer, execution, 0, ANSWER, answer)
            peer.end(execution, 1)
        case _:
            peer.end(execution, 0)


def arguments(content: Any) -> dict[str, Any]:
    """What the plug-in is told."""
    plugin = content["options"]["task"]["plugin"]
    assert plugin["name"] == "execution_service"
    told = json.loads(plugin["arguments"])
    assert isinstance(told, dict)
    return told


def executes(daemon: FakeDaemon) -> list[Any]:
    """All `execute` messages."""
    return [content for _, name, content in daemon.requests if name == "execute"]


def names(daemon: FakeDaemon) -> list[str]:
    """All that was asked, by name."""
    return [name for _, name, _ in daemon.requests]
