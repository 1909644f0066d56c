"""One run of code, read as it comes, over a connection of its own.

Back-pressure is that connection: who does not read stops his own notebook and nobody else's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self, TypeAlias

from . import _requests as requests
from ._connection import Connection, Pool
from ._exceptions import CellblockError, ConnectionLost
from ._messages import InputRequest, Output
from ._outcome import Completed, Outcome
from ._protocol import RETRYABLE, Deadline, Patience, Progress

InputCallback: TypeAlias = Callable[[InputRequest], str]


class Execution:
    """One run of code. For one thread at a time.

    ==============================  =====================================================
    `for output in execution:`      outputs as they come; `execution.outcome` after that
    `execution.wait()`              the Outcome, outputs thrown away
    `execution.result()`            everything that is still to come, collected
    `with nb.execute(…) as …:`      stops reading at the end; the code goes on
    ==============================  =====================================================

    After a `Timeout` just go on: nothing is lost. After a `ConnectionLost` call `reattach()`.
    """

    def __init__(
        self,
        pool: Pool,
        progress: Progress,
        *,
        timeout: float | None,
        reconnect_seconds: float,
        on_input: InputCallback | None,
    ) -> None:
        self._pool = pool
        self._progress = progress
        self._connection: Connection | None = None
        self._patience = Patience(reconnect_seconds)
        self._on_input = on_input
        self._deadline = self._until(timeout)
        # An idle connection may end under us; reading begins with a new one then.
        with contextlib.suppress(ConnectionLost):
            self._connect(self._deadline)

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

    def __iter__(self) -> Iterator[Output]:
        return self

    def __next__(self) -> Output:
        output = self._next(self._deadline)
        if output is None:
            raise StopIteration
        return output

    def wait(self, timeout: float | None = None) -> Outcome:
        """Reads to the end and forgets the outputs."""
        deadline = self._until(timeout).sooner(self._deadline)
        while self._next(deadline) is not None:
            pass
        return self._ended()

    def result(self, timeout: float | None = None) -> Completed:
        """Reads to the end and keeps the outputs, from where reading stands."""
        deadline = self._until(timeout).sooner(self._deadline)
        outputs: list[Output] = []
        while (output := self._next(deadline)) is not None:
            outputs.append(output)
        return Completed(outputs, self._ended())

    def wait_accepted(self, timeout: float | None = None) -> None:
        """Waits until the notebook's shim holds it: from here on it runs whatever happens to us."""
        deadline = self._until(timeout).sooner(self._deadline)
        while not self._progress.accepted:
            self._step(deadline)

    def answer(self, value: str, timeout: float | None = 10.0) -> None:
        """Answers an `InputRequest`, for those who gave no `on_input`."""
        call = requests.answer_input(self._progress.notebook, self.id, value)
        self._pool.call(call, Deadline(timeout, "`input` was not answered"))

    def cancel(self, timeout: float | None = 10.0) -> None:
        """Takes it out of the queue, or interrupts it; the Outcome says which."""
        call = requests.cancel(self._progress.notebook, self.id)
        self._pool.call(call, Deadline(timeout, "`cancel` was not answered"))

    def reattach(self, timeout: float | None = 10.0) -> None:
        """Connects again and reads on from the next output: nothing is missed, nothing comes twice."""
        self.close()
        self._patience.restore()
        if self.outcome is None:
            self._connect(self._until(timeout))

    def close(self) -> None:
        """Stops reading. The code goes on; `reattach()` goes on reading."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, deadline: Deadline) -> Output | None:
        while self.outcome is None:
            output = self._step(deadline)
            if isinstance(output, InputRequest) and self._on_input is not None:
                self.answer(self._on_input(output))
            if output is not None:
                return output
        return None

    def _step(self, deadline: Deadline) -> Output | None:
        """Takes one reply; None when it was no output."""
        try:
            connection = self._connection or self._connect(deadline)
            event = self._progress.receive(connection.reply(deadline))
        except RETRYABLE as error:
            self.close()
            self._progress.held_up = error
            self._pause(error, deadline)
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

    def _connect(self, deadline: Deadline) -> Connection:
        connection = self._pool.take(deadline)
        try:
            if (opening := self._progress.opening()) is not None:
                connection.call(opening, deadline)
            meta, payload = self._progress.start()
            connection.request(meta, payload, deadline)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _pause(self, error: CellblockError, deadline: Deadline) -> None:
        """Waits before the next attempt, or raises when we have run out of patience."""
        delay = self._patience.delay()
        if delay is None:
            raise self._progress.lost(error) from error
        remaining = deadline.remaining()
        time.sleep(delay if remaining is None else min(delay, remaining))

    def _until(self, timeout: float | None) -> Deadline:
        return Deadline(timeout, self._progress.unfinished)

    def _ended(self) -> Outcome:
        assert self.outcome is not None, "reading stops at the Outcome"
        return self.outcome
