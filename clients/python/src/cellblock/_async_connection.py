"""Connections for asyncio, and the pool of idle ones; the twin of `_connection.py`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Final, Self, TypeVar

from ._exceptions import CellblockError, RequestRefused
from ._protocol import Deadline, Reply, Session, connect_error
from ._requests import Call

T = TypeVar("T")

_READ_BYTES: Final = 128 << 10
_IDLE_CONNECTIONS: Final = 8
"""Kept open for the next request; more are closed."""


class AsyncConnection:
    """One connection, after Hello. Waiting can be cancelled at any point while reading."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tenant: str | None = None
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._session = Session(tenant)

    @classmethod
    async def open(cls, path: Path, deadline: Deadline, tenant: str | None = None) -> Self:
        """Connects and says hello."""
        async with _bounded(deadline):
            try:
                # The limit is what is read ahead of the consumer before the socket is left alone.
                streams = await asyncio.open_unix_connection(path, limit=_READ_BYTES)
                connection = cls(*streams, tenant)
            except OSError as error:
                raise connect_error(path, error) from error
        try:
            await connection._send(connection._session.hello(), deadline)
            connection._session.greet(await connection.reply(deadline))
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def server(self) -> str:
        """The server's build."""
        return self._session.server

    async def call(self, call: Call[T], deadline: Deadline) -> T:
        """Asks and waits for the one answer."""
        await self.request(call.meta, call.payload, deadline)
        reply = await self.reply(deadline)
        return call.parse(reply.name, reply.content, reply.payload)

    async def request(self, meta: object, payload: bytes, deadline: Deadline) -> None:
        """Sends a request whose replies are read with `reply`."""
        await self._send(self._session.request(meta, payload), deadline)

    async def reply(self, deadline: Deadline) -> Reply:
        """The next reply. After a `Timeout` it can be asked for again: nothing is lost."""
        while (reply := self._session.next_reply()) is None:
            async with _bounded(deadline):
                try:
                    data = await self._reader.read(_READ_BYTES)
                except OSError as error:
                    raise self._session.lost(error.strerror or str(error)) from error
            if not data:
                raise self._session.lost()
            self._session.feed(data)
        return reply

    def is_usable(self) -> bool:
        """Whether an idle connection is still good: its end has not come."""
        return not self._reader.at_eof() and not self._writer.is_closing()

    def close(self) -> None:
        """Ends it. What runs because of it goes on."""
        self._writer.close()

    async def wait_closed(self) -> None:
        """Waits until the event loop is done with it."""
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _send(self, data: bytes, deadline: Deadline) -> None:
        async with _bounded(deadline):
            try:
                self._writer.write(data)
                await self._writer.drain()
            except OSError as error:
                raise self._session.lost(error.strerror or str(error)) from error


class AsyncPool:
    """Connections to one socket, for one event loop."""

    def __init__(self, path: Path, tenant: str | None = None) -> None:
        self.path = path
        self._tenant = tenant
        self._idle: list[AsyncConnection] = []
        self._closed = False

    async def take(self, deadline: Deadline) -> AsyncConnection:
        """A connection that is nobody else's until it is given back or closed."""
        if self._closed:
            raise CellblockError("the client is closed")
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return await AsyncConnection.open(self.path, deadline, self._tenant)

    def give(self, connection: AsyncConnection) -> None:
        """Gives back a connection whose request has been answered in full."""
        if not self._closed and len(self._idle) < _IDLE_CONNECTIONS:
            self._idle.append(connection)
        else:
            connection.close()

    async def call(self, call: Call[T], deadline: Deadline) -> T:
        """Asks on some connection."""
        connection = await self.take(deadline)
        try:
            answer = await connection.call(call, deadline)
        except RequestRefused:
            # A refusal ends the answer, so the connection is as good as before; `take` looks if not.
            self.give(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self.give(connection)
        return answer

    async def stream(self, call: Call[T | None], seconds: float | None) -> AsyncGenerator[T, None]:
        """Asks on some connection for what comes in many replies; None ends it. `seconds` are for each."""
        what = f"`{call.name}` was not answered"
        connection = await self.take(Deadline(seconds, what))
        try:
            await connection.request(call.meta, call.payload, Deadline(seconds, what))
            while True:
                reply = await connection.reply(Deadline(seconds, what))
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

    async def close(self) -> None:
        """Closes what is idle now, and the rest when it is given back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
            await connection.wait_closed()


@contextlib.asynccontextmanager
async def _bounded(deadline: Deadline) -> AsyncIterator[None]:
    """Ends what is awaited inside with our `Timeout`."""
    try:
        async with asyncio.timeout(deadline.remaining()):
            yield
    except TimeoutError as error:
        if isinstance(error, CellblockError):
            raise
        raise deadline.timeout() from None
