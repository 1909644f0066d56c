"""The same client for asyncio: `AsyncClient`, `AsyncNotebook`, `AsyncExecution`.

What is sent and how it is read is in `_protocol.py` and `_requests.py`, the same as for the blocking
client; here is only who waits for what.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, Unpack

from . import _requests as requests
from . import _values as values
from ._async_connection import AsyncConnection, AsyncPool
from ._exceptions import CellblockError, ConnectionLost, TooLarge
from ._files import PART_BYTES, READ_LIMIT_BYTES, FilePart, Listing, Reading, parts_of
from ._messages import Bundle, InputRequest, Output
from ._outcome import Completed, Outcome
from ._profiles import ProfileInfo, Step, WarmInfo
from ._protocol import (
    DEFAULT,
    RETRYABLE,
    Deadline,
    Default,
    Patience,
    Progress,
    Wait,
    choose_socket,
)
from ._requests import Call, ExecuteOptions, ValueFormat
from ._status import Completions, DoctorLine, IsComplete, NotebookInfo, NotebookStatus, VariableInfo

T = TypeVar("T")
AsyncInputCallback: TypeAlias = Callable[[InputRequest], Awaitable[str]]


class AsyncClient:
    """A cellblockd, from one event loop. See `Client` for what connections are used for."""

    def __init__(
        self, pool: AsyncPool, *, timeout: float | None, reconnect_seconds: float, server: str
    ) -> None:
        self._pool = pool
        self._timeout = timeout
        self._reconnect_seconds = reconnect_seconds
        self.server = server
        """What cellblockd calls itself."""

    @classmethod
    async def connect(
        cls,
        socket_path: str | os.PathLike[str] | None = None,
        *,
        timeout: float | None = 10.0,
        reconnect_seconds: float = 30.0,
    ) -> Self:
        """Connects to a cellblockd; arguments as for `Client.connect`."""
        pool = AsyncPool(choose_socket(socket_path))
        connection = await pool.take(Deadline(timeout, f"`{pool.path}` did not answer"))
        server = connection.server
        pool.give(connection)
        return cls(pool, timeout=timeout, reconnect_seconds=reconnect_seconds, server=server)

    async def open(self, name: str, profile: str | None = None, *, timeout: Wait = DEFAULT) -> AsyncNotebook:
        """A notebook, made known when it is not; nothing runs yet."""
        await self._call(requests.open_notebook(name, profile), timeout)
        return AsyncNotebook(self, name, profile)

    async def notebooks(self, *, timeout: Wait = DEFAULT) -> tuple[NotebookInfo, ...]:
        """All notebooks of the caller, sorted by name."""
        return await self._call(requests.notebooks(), timeout)

    async def doctor(self, *, timeout: Wait = DEFAULT) -> tuple[DoctorLine, ...]:
        """What the host can enforce."""
        return await self._call(requests.doctor(), timeout)

    async def profiles(self, *, timeout: Wait = DEFAULT) -> tuple[ProfileInfo, ...]:
        """The profiles that a notebook can be opened with, sorted by name; broken ones too."""
        return await self._call(requests.profiles(), timeout)

    async def warm(self, *, timeout: Wait = DEFAULT) -> tuple[WarmInfo, ...]:
        """Zygotes and spare workers, by profile; of profiles that are used, or warmed at the start."""
        return await self._call(requests.warm(), timeout)

    async def plan(self, profile: str | None = None, *, timeout: Wait = DEFAULT) -> tuple[Step, ...]:
        """The steps that would make a sandbox of a profile on cellblockd's host; nothing is made."""
        return await self._call(requests.plan(profile), timeout)

    async def shutdown(self, *, timeout: Wait = DEFAULT) -> None:
        """Ends cellblockd; with it all workers when it is private."""
        await self._call(requests.shutdown(), timeout)

    async def close(self) -> None:
        """Closes the connections. What runs goes on; an Execution being read can be read to its end."""
        await self._pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, call: Call[T], timeout: Wait) -> T:
        seconds = self._timeout if isinstance(timeout, Default) else timeout
        return await self._pool.call(call, Deadline(seconds, f"`{call.name}` was not answered"))


class AsyncFiles:
    """The files of a notebook's workspace, while it runs something or not.

    Paths are relative to the workspace and text; `escape_name` writes names that are none. Links are
    listed and can be removed, never followed. `FileProblem` says what is wrong with a path,
    `StorageProblem` that the workspace is full. Modes are not carried: a script to be executed needs
    a `chmod` in the notebook.
    """

    def __init__(self, client: AsyncClient, notebook: str) -> None:
        self._client = client
        self._notebook = notebook

    async def list(self, path: str = "", *, timeout: Wait = DEFAULT) -> Listing:
        """The names in a folder, the workspace itself by default."""
        return await self._client._call(requests.list_files(self._notebook, path), timeout)

    async def read(self, path: str, *, limit_bytes: int = READ_LIMIT_BYTES, timeout: Wait = DEFAULT) -> bytes:
        """A whole file; `TooLarge` above `limit_bytes`. `timeout` is for each of its parts."""
        reading = Reading(path, limit_bytes)
        while reading.take(await self.read_part(path, reading.offset, timeout=timeout)):
            pass
        return reading.content()

    async def read_part(
        self, path: str, offset: int = 0, size: int = PART_BYTES, *, timeout: Wait = DEFAULT
    ) -> FilePart:
        """At most `size` bytes (8 MiB is the most) from `offset` on; fewer come at the file's end."""
        return await self._client._call(requests.read_file(self._notebook, path, offset, size), timeout)

    async def write(self, path: str, data: bytes | str, *, timeout: Wait = DEFAULT) -> None:
        """Writes a file anew, text as UTF-8, and makes the folders above it. `timeout` is for each part."""
        for offset, part in parts_of(data):
            await self._client._call(requests.write_file(self._notebook, path, offset, part), timeout)

    async def remove(self, path: str, *, timeout: Wait = DEFAULT) -> None:
        """Removes a file, or a folder with all that is in it."""
        await self._client._call(requests.remove_file(self._notebook, path), timeout)


class AsyncNotebook:
    """A notebook: a namespace that lasts from one Execution to the next."""

    def __init__(self, client: AsyncClient, name: str, profile: str | None) -> None:
        self._client = client
        self.name = name
        self.files = AsyncFiles(client, name)
        """Its workspace."""
        self._profile = profile

    async def execute(
        self,
        code: str,
        *,
        execution_id: str | None = None,
        timeout: float | None = None,
        reconnect_seconds: float | None = None,
        on_input: AsyncInputCallback | None = None,
        **options: Unpack[ExecuteOptions],
    ) -> AsyncExecution:
        """Runs code; arguments as for `Notebook.execute`, `on_input` is awaited."""
        execution_id = execution_id or uuid.uuid4().hex
        if on_input is not None:
            options["allow_stdin"] = True
        message = requests.execute(self.name, execution_id, **options)
        progress = Progress(
            self.name, execution_id, execute=message, code=code.encode(), profile=self._profile
        )
        return await self._execution(progress, timeout, reconnect_seconds, on_input)

    async def attach(
        self,
        execution_id: str,
        from_seq: int = 0,
        *,
        timeout: float | None = None,
        reconnect_seconds: float | None = None,
        on_input: AsyncInputCallback | None = None,
    ) -> AsyncExecution:
        """Reads an Execution from an output on, whoever started it."""
        progress = Progress(self.name, execution_id, next_seq=from_seq)
        return await self._execution(progress, timeout, reconnect_seconds, on_input)

    async def interrupt(self, *, timeout: Wait = DEFAULT) -> None:
        """Interrupts what runs; returns when the signal is on its way."""
        await self._client._call(requests.interrupt(self.name), timeout)

    async def cancel(self, execution_id: str, *, timeout: Wait = DEFAULT) -> None:
        """Takes an Execution out of the queue, or interrupts it when it runs already."""
        await self._client._call(requests.cancel(self.name, execution_id), timeout)

    async def restart(self, *, timeout: Wait = DEFAULT) -> None:
        """Ends the worker, and the variables with it; the next Execution gets a new one."""
        await self._client._call(requests.restart(self.name), timeout)

    async def close(self, *, timeout: Wait = DEFAULT) -> None:
        """Ends the worker and forgets the notebook; its files stay."""
        await self._client._call(requests.close(self.name), timeout)

    async def delete(self, *, timeout: Wait = DEFAULT) -> None:
        """`close`, and its files go too."""
        await self._client._call(requests.delete(self.name), timeout)

    async def status(self, *, timeout: Wait = DEFAULT) -> NotebookStatus:
        """What its worker does, its queue, its names, its sandbox."""
        return await self._client._call(requests.status(self.name), timeout)

    async def complete(self, code: str, cursor: int | None = None, *, timeout: Wait = DEFAULT) -> Completions:
        """What could stand at the cursor (in code points; None is the end). `Busy` while code runs."""
        return await self._client._call(requests.complete(self.name, code, cursor), timeout)

    async def inspect(
        self, code: str, cursor: int | None = None, *, detail: int = 0, timeout: Wait = DEFAULT
    ) -> Bundle | None:
        """What stands at the cursor; with `detail=1` its source. `Busy` while code runs."""
        return await self._client._call(requests.inspect(self.name, code, cursor, detail), timeout)

    async def is_complete(self, code: str, *, timeout: Wait = DEFAULT) -> IsComplete:
        """Whether code is a whole statement. `Busy` while code runs."""
        return await self._client._call(requests.is_complete(self.name, code), timeout)

    async def history(self, last: int = 100, *, timeout: Wait = DEFAULT) -> tuple[tuple[int, str], ...]:
        """The last inputs as (execution count, code), oldest first. `Busy` while code runs."""
        return await self._client._call(requests.history(self.name, last), timeout)

    async def variables(self, *, timeout: Wait = DEFAULT) -> tuple[VariableInfo, ...]:
        """The names in the namespace, sorted, and their values in short; no code of the user's runs for it.

        While code runs: as of the last Execution that ended, without the values.
        """
        return await self._client._call(requests.variables(self.name), timeout)

    async def put(self, name: str, value: object, *, timeout: float | None = None) -> None:
        """Binds a name to a value that has a JSON form. `ValueProblem` says why it could not."""
        values.check(await self._cross("put", name, "json", timeout, values.json_payload(value)))

    async def get(self, name: str, *, timeout: float | None = None) -> Any:
        """The value of a variable, by way of JSON; `CannotCross` names the part that has no such form."""
        return values.parse_json(values.content(await self._cross("get", name, "json", timeout), "json"))

    async def put_arrow(self, name: str, stream: bytes, *, timeout: float | None = None) -> None:
        """Binds a name to the table in an Arrow IPC stream, as a DataFrame where pandas is."""
        values.check(await self._cross("put", name, "arrow", timeout, stream))

    async def get_arrow(self, name: str, *, timeout: float | None = None) -> bytes:
        """A table (pandas, polars, Arrow) as an Arrow IPC stream."""
        return values.content(await self._cross("get", name, "arrow", timeout), "arrow")

    def __repr__(self) -> str:
        return f"<AsyncNotebook {self.name}>"

    async def _cross(
        self, verb: str, name: str, form: ValueFormat, timeout: float | None, payload: bytes = b""
    ) -> Completed:
        execution_id = uuid.uuid4().hex
        message = requests.execute(
            self.name,
            execution_id,
            store_history=False,
            stop_on_error=False,
            task=values.task(verb, name, form),
        )
        progress = Progress(self.name, execution_id, execute=message, code=payload, profile=self._profile)
        try:
            return await (await self._execution(progress, timeout, None, None)).result()
        except TooLarge as refused:
            raise values.too_large(name, refused) from None

    async def _execution(
        self,
        progress: Progress,
        timeout: float | None,
        reconnect_seconds: float | None,
        on_input: AsyncInputCallback | None,
    ) -> AsyncExecution:
        if reconnect_seconds is None:
            reconnect_seconds = self._client._reconnect_seconds
        execution = AsyncExecution(
            self._client._pool,
            progress,
            timeout=timeout,
            reconnect_seconds=reconnect_seconds,
            on_input=on_input,
        )
        # An idle connection may end under us; reading begins with a new one then.
        with contextlib.suppress(ConnectionLost):
            await execution._connect(execution._deadline)
        return execution


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
        return Deadline(timeout, f"Execution `{self.id}` goes on: it has not ended")

    def _ended(self) -> Outcome:
        assert self.outcome is not None, "reading stops at the Outcome"
        return self.outcome
