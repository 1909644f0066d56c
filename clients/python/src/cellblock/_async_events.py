"""What happens in notebooks, for asyncio; the twin of `_events.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from ._async_connection import AsyncConnection, AsyncPool
from ._checkpoints import Event
from ._events import ENDED, check_listening, event_in
from ._exceptions import CellblockError
from ._protocol import Deadline
from ._requests import Call


class AsyncEvents:
    """Events as they come, for ever: `async for event in events:`. For one task at a time; see `Events`."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._connection: AsyncConnection | None = None

    async def wait(self, timeout: float | None = None) -> Event:
        """The next event; after a `Timeout` go on: nothing is lost."""
        if self._connection is None:
            raise CellblockError(ENDED)
        deadline = Deadline(timeout, "no event came")
        try:
            return event_in(self._call, await self._connection.reply(deadline))
        except TimeoutError:
            raise
        except CellblockError:
            self.close()
            raise

    def close(self) -> None:
        """Stops listening."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await self.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _begin(self, call: Call[Event | None], seconds: float | None) -> None:
        deadline = Deadline(seconds, f"`{call.name}` was not answered")
        self._call = call
        self._connection = await self._pool.take(deadline)
        try:
            await self._connection.request(call.meta, call.payload, deadline)
            check_listening(call, await self._connection.reply(deadline))
        except BaseException:
            self.close()
            raise
