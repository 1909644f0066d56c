"""Blocking connections, and the pool of idle ones.

A connection serves one request at a time and belongs to one thread meanwhile. So whoever reads
slowly is held back by his own socket and delays nobody else, and nothing reads behind his back.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

from ._exceptions import CellblockError, RequestRefused
from ._protocol import Deadline, Reply, Session, connect_error
from ._requests import Call

T = TypeVar("T")

_READ_BYTES: Final = 128 << 10
_IDLE_CONNECTIONS: Final = 8
"""Kept open for the next request; more are closed."""


class Connection:
    """One connection, after Hello."""

    def __init__(self, path: Path, deadline: Deadline, tenant: str | None = None) -> None:
        self._session = Session(tenant)
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._timeout: float | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._wait_at_most(deadline)
            try:
                self._socket.connect(str(path))
            except TimeoutError:
                raise deadline.timeout() from None
            except OSError as error:
                raise connect_error(path, error) from error
            self._send(self._session.hello(), deadline)
            self._session.greet(self.reply(deadline))
        except BaseException:
            self.close()
            raise

    @property
    def server(self) -> str:
        """The server's build."""
        return self._session.server

    def call(self, call: Call[T], deadline: Deadline) -> T:
        """Asks and waits for the one answer."""
        self.request(call.meta, call.payload, deadline)
        reply = self.reply(deadline)
        return call.parse(reply.name, reply.content, reply.payload)

    def request(self, meta: object, payload: bytes, deadline: Deadline) -> None:
        """Sends a request whose replies are read with `reply`."""
        self._send(self._session.request(meta, payload), deadline)

    def reply(self, deadline: Deadline) -> Reply:
        """The next reply. After a `Timeout` it can be asked for again: nothing is lost."""
        while (reply := self._session.next_reply()) is None:
            self._wait_at_most(deadline)
            try:
                count = self._socket.recv_into(self._buffer)
            except TimeoutError:
                raise deadline.timeout() from None
            except OSError as error:
                raise self._session.lost(error.strerror or str(error)) from error
            if not count:
                raise self._session.lost()
            self._session.feed(self._buffer[:count])
        return reply

    def is_usable(self) -> bool:
        """Whether an idle connection is still good: there is nothing to read, not even its end."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Ends it. What runs because of it goes on."""
        self._socket.close()

    def _send(self, data: bytes, deadline: Deadline) -> None:
        self._wait_at_most(deadline)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            # Half a frame is out: nothing else can follow on this connection.
            self.close()
            raise deadline.timeout() from None
        except OSError as error:
            raise self._session.lost(error.strerror or str(error)) from error

    def _wait_at_most(self, deadline: Deadline) -> None:
        timeout = deadline.remaining()
        if timeout is not None or self._timeout is not None:
            self._timeout = timeout
            self._socket.settimeout(timeout)


class Pool:
    """Connections to one socket; safe to use from many threads."""

    def __init__(self, path: Path, tenant: str | None = None) -> None:
        self.path = path
        self._tenant = tenant
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    def take(self, deadline: Deadline) -> Connection:
        """A connection that is nobody else's until it is given back or closed."""
        while True:
            with self._lock:
                if self._closed:
                    raise CellblockError("the client is closed")
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return Connection(self.path, deadline, self._tenant)
            if connection.is_usable():
                return connection
            # cellblockd has gone or been restarted since.
            connection.close()

    def give(self, connection: Connection) -> None:
        """Gives back a connection whose request has been answered in full."""
        with self._lock:
            if not self._closed and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def call(self, call: Call[T], deadline: Deadline) -> T:
        """Asks on some connection."""
        connection = self.take(deadline)
        try:
            answer = connection.call(call, deadline)
        except RequestRefused:
            # A refusal ends the answer, so the connection is as good as before; `take` looks if not.
            self.give(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self.give(connection)
        return answer

    def stream(self, call: Call[T | None], seconds: float | None) -> Iterator[T]:
        """Asks on some connection for what comes in many replies; None ends it. `seconds` are for each."""
        what = f"`{call.name}` was not answered"
        connection = self.take(Deadline(seconds, what))
        try:
            connection.request(call.meta, call.payload, Deadline(seconds, what))
            while True:
                reply = connection.reply(Deadline(seconds, what))
                item = call.parse(reply.name, reply.content, reply.payload)
                if item is None:
                    break
                yield item
        except RequestRefused:
            self.give(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self.give(connection)

    def close(self) -> None:
        """Closes what is idle now, and the rest when it is given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
