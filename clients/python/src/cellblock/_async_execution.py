"""One run of code for asyncio, read as it comes; the twin of `_execution.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self, TypeAlias

from . import _requests as requests
from ._async_connection import AsyncConnection, AsyncPool
from ._exceptions import CellblockError
from ._messages import InputRequest, Output
from ._outcome import Completed, Outcome
from ._protocol import RETRYABLE, Deadline, Patience, Progress

AsyncInputCallback: TypeAlias = Callable[[InputRequest], Awaitable[str]]


class AsyncExecution:
    """One run of code, read by one task at a time; see `Execution` for the ways to read it."""

    def __init__(
        self,
        pool: AsyncPool,
        progress: Progress,
        *,
        timeout: float | None,
        reconnect_seconds: float,
        on_input: AsyncInputCallback | None,
    ) -> None:
        self._pool = pool
        self._progress = progress
        self._connection: AsyncConnection | None = None
        self._patience = Patience(reconnect_seconds)
        self._on_input = on_input
        self._deadline = self._until(timeout)

    @property
    def id(self) -> str:
        """Its id, unique within its notebook."""
        return self._progress.execution_id

    @property
    def next_seq(self) -> int:
        """How many outputs have been read: the number of the next."""
        return self._progress.next_seq

    @property
    def outcome(self) -> Outcome | None:
        """How it ended, once all of it has been read."""
        return self._progress.outcome

    def __aiter__(self) -> AsyncIterator[Output]:
        return self

    async def __anext__(self) -> Output:
        output = await self._next(self._deadline)
        if output is None:
            raise StopAsyncIteration
        return output

    async def wait(self, timeout: float | None = None) -> Outcome:
        """Reads to the end and forgets the outputs."""
        deadline = self._until(timeout).sooner(self._deadline)
        while await self._next(deadline) is not None:
            pass
        return self._ended()

    async def result(self, timeout: float | None = None) -> Completed:
        """Reads to the end and keeps the outputs, from where reading stands."""
        deadline = self._until(timeout).sooner(self._deadline)
        outputs: list[Output] = []
        while (output := await self._next(deadline)) is not None:
            outputs.append(output)
        return Completed(outputs, self._ended())

    async def wait_accepted(self, timeout: float | None = None) -> None:
        """Waits until the notebook's shim holds it: from here on it runs whatever happens to us."""
        deadline = self._until(timeout).sooner(self._deadline)
        while not self._progress.accepted:
            await self._step(deadline)

    async def answer(self, value: str, timeout: float | None = 10.0) -> None:
        """Answers an `InputRequest`, for those who gave no `on_input`."""
        call = requests.answer_input(self._progress.notebook, self.id, value)
        await self._pool.call(call, Deadline(timeout, "`input` was not answered"))

    async def cancel(self, timeout: float | None = 10.0) -> None:
        """Takes it out of the queue, or interrupts it; the Outcome says which."""
        call = requests.cancel(self._progress.notebook, self.id)
        await self._pool.call(call, Deadline(timeout, "`cancel` was not answered"))

    async def reattach(self, timeout: float | None = 10.0) -> None:
        """Connects again and reads on from the next output: nothing is missed, nothing comes twice."""
        self.close()
        self._patience.restore()
        if self.outcome is None:
            await self._connect(self._until(timeout))

    def close(self) -> None:
        """Stops reading. The code goes on; `reattach()` goes on reading."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _next(self, deadline: Deadline) -> Output | None:
        while self.outcome is None:
            output = await self._step(deadline)
            if isinstance(output, InputRequest) and self._on_input is not None:
                await self.answer(await self._on_input(output))
            if output is not None:
                return output
        return None

    async def _step(self, deadline: Deadline) -> Output | None:
        """Takes one reply; None when it was no output."""
        try:
            connection = self._connection or await self._connect(deadline)
            event = self._progress.receive(await connection.reply(deadline))
        except RETRYABLE as error:
            self.close()
            self._progress.held_up = error
            await self._pause(error, deadline)
            return None
        except TimeoutError:
            raise
        except CellblockError:
            self.close()
            raise
        self._patience.restore()
        if not isinstance(event, Outcome):
            return event
        # Answered in full: the next request can use the connection.
        self._connection = None
        self._pool.give(connection)
        return None

    async def _connect(self, deadline: Deadline) -> AsyncConnection:
        connection = await self._pool.take(deadline)
        try:
            if (opening := self._progress.opening()) is not None:
                await connection.call(opening, deadline)
            meta, payload = self._progress.start()
            await connection.request(meta, payload, deadline)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    async def _pause(self, error: CellblockError, deadline: Deadline) -> None:
        delay = self._patience.delay()
        if delay is None:
            raise self._progress.lost(error) from error
        remaining = deadline.remaining()
        await asyncio.sleep(delay if remaining is None else min(delay, remaining))

    def _until(self, timeout: float | None) -> Deadline:
        return Deadline(timeout, self._progress.unfinished)

    def _ended(self) -> Outcome:
        assert self.outcome is not None, "reading stops at the Outcome"
        return self.outcome
