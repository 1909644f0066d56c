"""A cellblockd that says what a test wants: real sockets, no workers."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeAlias

from cellblock._frames import FLAG_LAST, Codec, Frame, FrameReader, Kind

Handler: TypeAlias = "Callable[[Peer, str, Any, bytes], None]"
"""Called for each request: who asks, the request's name, its content, its payload."""

HELLO = {"version": 1, "codec": "json", "server": "fake", "meta_bytes": 1 << 20, "payload_bytes": 64 << 20}


class Peer:
    """The daemon's side of one connection."""

    def __init__(self, connection: socket.socket, number: int) -> None:
        self.number = number
        """Counts connections from 1."""
        self._socket = connection
        self._reader = FrameReader()
        self._request = 0

    def reply(
        self, meta: object, payload: bytes = b"", *, last: bool = False, request: int | None = None
    ) -> None:
        """Answers the request under way."""
        self.send(self.frame(meta, payload, last=last, request=request))

    def frame(
        self, meta: object, payload: bytes = b"", *, last: bool = False, request: int | None = None
    ) -> bytes:
        """The bytes of an answer."""
        number = self._request if request is None else request
        flags = FLAG_LAST if last else 0
        return Frame(Kind.REPLY, Codec.JSON, flags, number, json.dumps(meta).encode(), payload).encode()

    def send(self, data: bytes) -> None:
        """Sends bytes, whatever they are."""
        self._socket.sendall(data)

    def refuse(self, code: str, message: str = "because", hint: object = None) -> None:
        """Answers with an error."""
        self.reply({"error": {"code": code, "message": message, "hint": hint}}, last=True)

    def accept(self, execution: str) -> None:
        """Says `accepted`."""
        self.reply({"accepted": {"execution": execution, "position": 0}})

    def text(self, execution: str, seq: int, text: str) -> None:
        """An output on stdout."""
        self.reply(output(execution, seq), text.encode())

    def end(self, execution: str, outputs: int, end: object = "ok") -> None:
        """Says how it ended."""
        self.reply(outcome(execution, outputs, end), last=True)

    def hang_up(self) -> None:
        """Ends the connection."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def serve(self, handler: Handler) -> None:
        """Handles requests until the other side is gone."""
        try:
            while data := self._socket.recv(1 << 16):
                self._reader.feed(data)
                while frame := self._reader.next_frame():
                    self._request = frame.request
                    message = json.loads(frame.meta)
                    [(name, content)] = message.items() if isinstance(message, dict) else [(message, {})]
                    handler(self, name, content, frame.payload)
        except OSError:
            pass  # The client went away, which is its right.
        finally:
            self._socket.close()


class FakeDaemon:
    """Listens, and gives each request to the handler, in a thread per connection."""

    def __init__(self, handler: Handler, *, hello: object = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cb-fake-", dir="/tmp"))
        self.path = self._folder / "socket"
        self._handler = handler
        self._hello = HELLO if hello is None else hello
        self.tenants: list[str | None] = []
        """As whom each connection has said hello."""
        self.requests: list[tuple[int, str, Any]] = []
        """(connection, name, content) of everything asked but hello."""
        self.start()

    def start(self) -> None:
        """Listens; again, after `stop`."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,))
        self._acceptor.start()

    def stop(self) -> None:
        """Dies: nobody listens, every connection ends."""
        # Closing alone does not wake accept(2).
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self.path.unlink()
        for connection in self._sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # Closed by its thread.
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path.exists():
            self.stop()
        shutil.rmtree(self._folder)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._sockets.append(connection)
            peer = Peer(connection, len(self._sockets))
            thread = threading.Thread(target=peer.serve, args=(self._handle,))
            self._threads.append(thread)
            thread.start()

    def _handle(self, peer: Peer, name: str, content: Any, payload: bytes) -> None:
        if name == "hello":
            self.tenants.append(content["tenant"])
            peer.reply({"hello": self._hello}, last=True)
            return
        self.requests.append((peer.number, name, content))
        if name == "open_notebook":
            info = {"notebook": content["notebook"], "profile": "default", "state": "none"}
            peer.reply({"notebook": {**info, "queued": 0, "executions": 0}}, last=True)
            return
        self._handler(peer, name, content, payload)


def output(execution: str, seq: int, what: object = None) -> object:
    """An output's meta."""
    body = {"stream": {"name": "stdout"}} if what is None else what
    return {"output": {"execution": execution, "seq": seq, "output": body}}


def outcome(execution: str, outputs: int, end: object = "ok") -> object:
    """An outcome's meta."""
    rest = {"execution_count": 1, "wall_us": 1500, "queued_us": 0, "variables": "kept", "expressions": []}
    names: dict[str, list[object]] = {"added": [], "changed": [], "removed": []}
    return {
        "outcome": {
            "execution": execution,
            "outputs": outputs,
            "outcome": {"end": end, "names": names, **rest},
        }
    }
