"""The same client for asyncio: `AsyncClient`, `AsyncNotebook`; Executions are in `_async_execution.py`.

What is sent and how it is read is in `_protocol.py` and `_requests.py`, the same as for the blocking
client; here is only who waits for what.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from . import _requests as requests
from . import _values as values
from ._async_connection import AsyncPool
from ._async_events import AsyncEvents
from ._async_execution import AsyncExecution, AsyncInputCallback
from ._checkpoints import Checkpoint, CheckpointContent, Checkpoints, Collected, Restored, Verified
from ._exceptions import ConnectionLost, TooLarge
from ._files import PART_BYTES, READ_LIMIT_BYTES, FilePart, Listing, Reading, parts_of
from ._messages import Bundle
from ._operations import Drained, Overview, TenantInfo
from ._outcome import Completed
from ._profiles import ProfileInfo, Step, WarmInfo
from ._protocol import DEFAULT, Deadline, Default, Progress, Wait, choose_socket
from ._requests import Call, ExecuteOptions, ValueFormat
from ._status import Completions, DoctorLine, IsComplete, NotebookInfo, NotebookStatus, VariableInfo
from ._transfer import Source, Target, parts_from, written_to

T = TypeVar("T")


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
        tenant: str | None = None,
        timeout: float | None = 10.0,
        reconnect_seconds: float = 30.0,
    ) -> Self:
        """Connects to a cellblockd; arguments as for `Client.connect`."""
        pool = AsyncPool(choose_socket(socket_path), tenant)
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
        found, more = await self._call(requests.notebooks(), timeout)
        while more:
            behind, more = await self._call(requests.notebooks(found[-1].name), timeout)
            found += behind
        return found

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

    async def events(
        self, notebook: str | None = None, *, all_tenants: bool = False, timeout: Wait = DEFAULT
    ) -> AsyncEvents:
        """What happens from now on in a notebook, or in all of the caller's; `timeout` is for the beginning.

        Events for which there is no listener are not kept. Operators may ask for those of all tenants.
        """
        events = AsyncEvents(self._pool)
        await events._begin(requests.events(notebook, all_tenants=all_tenants), self._seconds(timeout))
        return events

    async def metrics(self, *, timeout: Wait = DEFAULT) -> str:
        """Figures of cellblockd in Prometheus' text format. For operators."""
        return await self._call(requests.metrics(), timeout)

    async def overview(self, *, timeout: Wait = DEFAULT) -> Overview:
        """cellblockd in figures, and the notebooks of all tenants. For operators.

        Of very many notebooks those that have a worker, or something that waits for one, come before others;
        `daemon.notebooks` is how many there are.
        """
        return await self._call(requests.overview(), timeout)

    async def tenants(self, *, timeout: Wait = DEFAULT) -> tuple[TenantInfo, ...]:
        """The tenants, what they may use and what they use. For operators."""
        return await self._call(requests.tenants(), timeout)

    async def drain(self, seconds: int | None = None, *, timeout: float | None = None) -> Drained:
        """Ends cellblockd with care: new Executions are refused, what runs has time. For operators.

        `seconds` is how long what runs has; when None, what cellblockd was started with. What is being saved
        is finished. Returns when cellblockd is about to end, with what goes on without it: the next one takes
        that back.
        """
        return await self._call(requests.drain(seconds), timeout)

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
        deadline = Deadline(self._seconds(timeout), f"`{call.name}` was not answered")
        return await self._pool.call(call, deadline)

    def _seconds(self, timeout: Wait) -> float | None:
        return self._timeout if isinstance(timeout, Default) else timeout


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
        """Ends the worker; the next Execution gets a new one without variables. Checkpoints stay."""
        await self._client._call(requests.restart(self.name), timeout)

    async def pin(self, *, timeout: Wait = DEFAULT) -> NotebookInfo:
        """Keeps the worker: it is not evicted for being idle or to make room. Holds over restarts."""
        return await self._client._call(requests.pin(self.name, pinned=True), timeout)

    async def unpin(self, *, timeout: Wait = DEFAULT) -> NotebookInfo:
        """Lets the worker be evicted again, as its profile says."""
        return await self._client._call(requests.pin(self.name, pinned=False), timeout)

    async def evict(self, *, timeout: float | None = None) -> None:
        """Saves the variables and ends the worker, pinned or not; the next Execution brings it back.

        Returns when it has gone. `Busy` while something runs or waits, or when variables cannot be saved and
        the profile wants them kept; the worker stays then.
        """
        await self._client._call(requests.evict(self.name), timeout)

    async def close(self, *, timeout: Wait = DEFAULT) -> None:
        """Ends the worker and forgets the notebook; its files and checkpoints stay."""
        await self._client._call(requests.close(self.name), timeout)

    async def delete(self, *, timeout: Wait = DEFAULT) -> None:
        """`close`, and its files and checkpoints go too."""
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

    # Checkpoints.

    async def checkpoint(self, *, timeout: float | None = None) -> Checkpoint:
        """Saves the variables now, or when the cell that runs has ended; returns when they are saved."""
        return await self._client._call(requests.checkpoint(self.name), timeout)

    async def checkpoints(self, *, timeout: Wait = DEFAULT) -> Checkpoints:
        """The checkpoints kept, oldest first."""
        return await self._client._call(requests.checkpoints(self.name), timeout)

    async def checkpoint_content(
        self, checkpoint_id: int | None = None, *, timeout: Wait = DEFAULT
    ) -> CheckpointContent:
        """What is in a checkpoint, the current one by default."""
        return await self._client._call(requests.checkpoint_content(self.name, checkpoint_id), timeout)

    async def restore(self, checkpoint_id: int | None = None, *, timeout: float | None = None) -> Restored:
        """Ends the worker, and starts one with the variables of a checkpoint, the current one by default.

        What has been saved since stays in the store.
        """
        return await self._client._call(requests.restore(self.name, checkpoint_id), timeout)

    async def fork(
        self, to: str, checkpoint_id: int | None = None, *, timeout: float | None = None
    ) -> AsyncNotebook:
        """A new notebook `to` that begins with the variables of a checkpoint, the current one by default.

        Its workspace is empty; its profile is that of this one.
        """
        info = await self._client._call(requests.fork(self.name, checkpoint_id, to), timeout)
        return AsyncNotebook(self._client, to, info.profile)

    async def export_checkpoint(
        self, to: Target, checkpoint_id: int | None = None, *, timeout: float | None = None
    ) -> None:
        """Writes a checkpoint, the current one by default, as one file that another machine can import.

        `to` is a path, whose file is replaced when the new one is whole, or a file open for writing bytes.
        `timeout` is for each part of it.
        """
        call = requests.export_checkpoint(self.name, checkpoint_id)
        with written_to(to) as file:
            async with contextlib.aclosing(self._client._pool.stream(call, timeout)) as parts:
                async for part in parts:
                    await asyncio.to_thread(file.write, part)

    async def import_checkpoint(self, source: Source, *, timeout: float | None = None) -> int:
        """Takes over an exported checkpoint, and returns the number that it has here.

        `source` is a path or a file open for reading bytes. It becomes the current checkpoint where there was
        none, else it is for `restore`. `timeout` is for each part.
        """
        with parts_from(source) as parts:
            while (part := await asyncio.to_thread(next, parts, None)) is not None:
                call = requests.import_checkpoint(self.name, part.offset, part.data, last=part.last)
                number = await self._client._call(call, timeout)
        assert number is not None, "the last part is answered with a number"
        return number

    async def verify_checkpoints(
        self, checkpoint_id: int | None = None, *, timeout: float | None = None
    ) -> tuple[Verified, ...]:
        """Reads every byte of a checkpoint, of all by default."""
        return await self._client._call(requests.verify_checkpoints(self.name, checkpoint_id), timeout)

    async def collect_checkpoints(
        self,
        *,
        keep_last: int | None = None,
        keep_daily: int | None = None,
        max_bytes: int | None = None,
        timeout: float | None = None,
    ) -> Collected:
        """Removes the checkpoints that the rule does not keep; without one, the profile's.

        Kept are the `keep_last` newest, and of the `keep_daily` last days that have one the newest of the
        day; of these the oldest go while they take more than `max_bytes`. What is not said limits nothing.
        The current one and the newest stay in any case.
        """
        call = requests.collect_checkpoints(self.name, keep_last, keep_daily, max_bytes)
        return await self._client._call(call, timeout)

    async def clear(self, *, timeout: Wait = DEFAULT) -> None:
        """Ends the worker and removes all checkpoints; files and profile stay. There is no way back."""
        await self._client._call(requests.clear(self.name), timeout)

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
