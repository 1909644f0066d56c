"""What happens in notebooks, as it happens, over a connection of its own.

When the connection is lost, nobody knows what has happened meanwhile: so that is an exception, and no
attempt to connect again is made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from ._checkpoints import Event
from ._connection import Connection, Pool
from ._exceptions import CellblockError, ProtocolError
from ._protocol import Deadline, Reply
from ._requests import Call

ENDED: Final = "nobody listens for events any more: this was closed"


class Events:
    """Events as they come, for ever: `for event in events:`. For one thread at a time.

    `wait` bounds the waiting. `ConnectionLost` ends it when cellblockd ends.
    """

    def __init__(self, pool: Pool, call: Call[Event | None], seconds: float | None) -> None:
        deadline = Deadline(seconds, f"`{call.name}` was not answered")
        self._call = call
        self._connection: Connection | None = pool.take(deadline)
        try:
            self._connection.request(call.meta, call.payload, deadline)
            check_listening(call, self._connection.reply(deadline))
        except BaseException:
            self.close()
            raise

    def wait(self, timeout: float | None = None) -> Event:
        """The next event; after a `Timeout` go on: nothing is lost."""
        if self._connection is None:
            raise CellblockError(ENDED)
        deadline = Deadline(timeout, "no event came")
        try:
            return event_in(self._call, self._connection.reply(deadline))
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

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_listening(call: Call[Event | None], reply: Reply) -> None:
    """Takes the first reply."""
    if call.parse(reply.name, reply.content, reply.payload) is not None:
        raise ProtocolError("an event came before it was listened for")


def event_in(call: Call[Event | None], reply: Reply) -> Event:
    """Takes any further reply."""
    event = call.parse(reply.name, reply.content, reply.payload)
    if event is None:
        raise ProtocolError("`listening` came where an event was expected")
    return event
