"""One Execution after the other: from the command to its one `Finished`.

An interrupt may be raised between any two instructions while a run is in progress. So `_run` has
layers: IPython reports what user code raises; `_guarded` what is raised in IPython or around it;
`serve` what escapes even that. Whoever catches it, `_finish` is called once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import os
import sys
import traceback
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from . import attribution, bundle, errors, names, queries, values
from .channel import META_BYTES, Channel, Command
from .interrupt import Interrupts
from .plugins import Plugins, Refused
from .shell import Shell
from .stdin import Stdin
from .text import Text

if TYPE_CHECKING:
    from .saving import Saver


class Executor:
    """Owns the loop, the queue of commands and the run in progress."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        channel: Channel,
        text: Text,
        shell: Shell,
        interrupts: Interrupts,
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._text = text
        self._shell = shell
        self._interrupts = interrupts
        self._stdin = Stdin(shell.outputs, self._receive_input)
        self._stdin.install()
        self._plugins = Plugins(shell, self._stdin)
        self._saver: Saver | None = None
        self._waiting: deque[Command] = deque()
        self._running: Command | None = None
        self._task: asyncio.Task[None] | None = None
        # One context for all cells, so that what a cell sets in it (decimal's precision) stays.
        self._context = contextvars.copy_context()
        self._names = names.snapshot(shell.user_ns, shell.user_ns_hidden)

    def serve(self) -> None:
        """Runs until the socket ends; the loop turns between cells too."""
        self._loop.add_reader(self._channel.fileno(), self._take)
        while True:
            try:
                self._loop.run_forever()
            except BaseException as error:
                if self._text.is_child:
                    _leave_child(error)
                # asyncio lets KeyboardInterrupt and SystemExit of a task through. A background
                # task's is its own affair; it has been stored in the task.
                if self._running is not None and self._task is not None and self._task.done():
                    self._interrupts.end()
                    self._finish(self._failed(error))

    # Commands.

    def _take(self) -> None:
        command = self._channel.receive(wait=False)
        if command is None:
            return
        if "query" in command.body:
            self._channel.answer(command.request, *self._answer(command))
        elif "execute" in command.body:
            self._waiting.append(command)
            self._start_next()
        elif "checkpoints" in command.body:
            self._begin_checkpoints()
        elif command.fd is not None:
            self._save_or_restore(command, command.fd)
        # An `input` nobody waits for any more: the cell was interrupted while it asked.

    def _begin_checkpoints(self) -> None:
        # Imported here: most workers never do.
        from .saving import Saver

        self._saver = Saver(self._channel, self._shell, self._loop)

    def _save_or_restore(self, command: Command, fd: int) -> None:
        """Between two cells, which wait meanwhile."""
        assert self._saver is not None
        with self._text.muted():
            if "snapshot" in command.body:
                # In the cells' context: what they have set in it is saved, and set again for them.
                self._context.run(self._saver.save, command.body["snapshot"]["execution"], fd)
            else:
                self._context.run(self._saver.restore, fd)
                self._names = names.snapshot(self._shell.user_ns, self._shell.user_ns_hidden)

    def _answer(self, command: Command) -> tuple[Any, bytes]:
        if self._running is not None:
            return "busy", b""
        code = command.payload.decode("utf-8", "replace")
        # What a `__repr__` of the user's prints then is no output.
        with self._text.muted():
            return queries.answer(self._shell, command.body["query"], code)

    def _receive_input(self) -> str:
        while True:
            command = self._channel.receive(wait=True)
            assert command is not None
            if "input" in command.body:
                return str(command.body["input"]["value"])
            if "query" in command.body:
                self._channel.answer(command.request, "busy")
            else:
                self._waiting.append(command)

    def _start_next(self) -> None:
        if self._running is not None or not self._waiting:
            return
        self._running = command = self._waiting.popleft()
        execution = command.body["execute"]["execution"]
        attribution.set_foreground(execution)
        self._context.run(attribution.EXECUTION.set, execution)
        self._task = self._loop.create_task(self._run(command), context=self._context)

    # A run.

    async def _run(self, command: Command) -> None:
        options = command.body["execute"]
        self._text.expect_threads()
        self._text.begin(options["execution"])
        self._shell.last_report, self._shell.shown = None, 0
        try:
            ended = await self._guarded(options, command.payload)
        except BaseException as error:
            self._interrupts.end()
            ended = self._failed(error)
        if self._text.is_child:
            _leave_child(ended[2])
        self._finish(ended)

    async def _guarded(self, options: dict[str, Any], payload: bytes) -> Ended:
        task = self._task
        assert task is not None
        try:
            self._interrupts.begin(options["run"], task)
            self._stdin.allowed = options["allow_stdin"]
            self._shell.displayhook.echo = options["echo"] != "none"
            error = await self._do(options, payload)
            if error is not None:
                if not self._text.is_child:
                    self._shell.show_unless_shown(error)
                return self._end_of(error), _NOTHING, error
            return "ok", self._expressions(options["user_expressions"]), None
        except Refused as refused:
            return (
                {"error": _named(refused.name, errors.clipped(refused.text, errors.VALUE))},
                _NOTHING,
                refused,
            )
        finally:
            self._text.synchronous = False
            self._interrupts.end()
            self._stdin.allowed = False

    async def _do(self, options: dict[str, Any], payload: bytes) -> BaseException | None:
        """What the Execution's `Task` says; the exception that ended its code."""
        kind, task = _variant(options["task"])
        if kind == "put":
            values.put(self._shell, task, payload)
        elif kind == "get":
            values.get(self._shell, task)
        elif kind == "plugin":
            return await self._do_with_plugin(options, task, payload)
        else:
            return await self._evaluate(options, payload.decode("utf-8", "replace"))
        return None

    async def _do_with_plugin(
        self, options: dict[str, Any], task: dict[str, str], payload: bytes
    ) -> BaseException | None:
        plugin = self._plugins.named(task["name"])
        try:
            arguments = json.loads(task["arguments"])
        except (ValueError, RecursionError) as fault:
            raise Refused(
                "BadArguments", f"the arguments of `{task['name']}` are not JSON: {fault}"
            ) from None
        code = plugin.begin(arguments, payload.decode("utf-8", "replace"))
        error: BaseException | None = None
        try:
            error = await self._evaluate(options, code)
        finally:
            if not self._text.is_child:
                plugin.end(error)
        return error

    async def _evaluate(self, options: dict[str, Any], code: str) -> BaseException | None:
        """Runs code as ipykernel's `do_execute`; the exception that ended it."""
        shell, silent = self._shell, options["silent"]
        problem = None
        try:
            cell = shell.transformed(code)
        except Exception:
            cell, problem = code, sys.exc_info()
        run = shell.run_cell_async(
            code,
            store_history=options["store_history"],
            silent=silent,
            transformed_cell=cell,
            preprocessing_exc_tuple=problem,
            cell_id=options.get("cell"),
        )
        result = None
        try:
            if problem is None and shell.is_async(code, cell):
                result = await run
            else:
                self._text.synchronous = True
                result = _driven(run)
        finally:
            self._text.synchronous = False
            if not self._text.is_child:
                # Figures that are still open are displayed here.
                shell.events.trigger("post_execute")
                if not silent:
                    shell.events.trigger("post_run_cell", result)
        # Not `or`: an exception can be false.
        before, in_exec = result.error_before_exec, result.error_in_exec
        ended: BaseException | None = in_exec if before is None else before
        return ended

    def _expressions(self, wanted: list[list[str]]) -> Expressions:
        results: list[dict[str, Any]] = []
        payload = bytearray()
        if wanted:
            values = self._shell.user_expressions(dict(wanted))
            for name, value in values.items():
                if value["status"] == "ok":
                    encoded = bundle.encode(value["data"], value["metadata"])
                    if len(payload) + len(encoded.payload) <= bundle.BUNDLE_BYTES:
                        results.append({"name": name, "result": {"value": encoded.wire(len(payload))}})
                        payload += encoded.payload
                        continue
                    value = {"ename": "OverflowError", "evalue": "all values together are too large"}
                shown = {key: errors.clipped(value[key], 1_000) for key in ("ename", "evalue")}
                results.append({"name": name, "result": {"error": _named(shown["ename"], shown["evalue"])}})
        return results, bytes(payload)

    def _end_of(self, error: BaseException) -> Any:
        kind = type(error)
        interrupted = issubclass(kind, KeyboardInterrupt) and self._interrupts.delivered
        if interrupted or (issubclass(kind, asyncio.CancelledError) and self._interrupts.cancelled):
            return "interrupted"
        return {"error": _named(errors.name_of(kind), errors.last_text_of(error))}

    def _failed(self, error: BaseException) -> Ended:
        """What was raised outside user code: an interrupt in the machinery, or a hook's error."""
        if not self._text.is_child:
            # Whatever happens here, the end itself must still be told.
            with contextlib.suppress(BaseException):
                self._shell.show_barely(error)
        return self._end_of(error), _NOTHING, error

    def _finish(self, ended: Ended) -> None:
        running, self._running, self._task = self._running, None, None
        if running is None:
            return
        end, (expressions, payload), _ = ended
        execution = running.body["execute"]["execution"]
        shell = self._shell
        finished: dict[str, Any] = {
            "execution": execution,
            "end": end,
            "execution_count": max(shell.execution_count - 1, 0),
            "names": self._name_changes(),
            "expressions": expressions,
        }
        if len(json.dumps(finished)) > META_BYTES - (8 << 10):
            finished["expressions"], payload = [], b""
        self._text.expect_threads()
        self._channel.send({"finished": finished}, payload)
        self._text.rest()
        if self._waiting:
            # Not from here: this runs within the context that the next cell enters.
            self._loop.call_soon(self._start_next, context=contextvars.Context())

    def _name_changes(self) -> dict[str, Any]:
        shell = self._shell
        try:
            after = names.snapshot(shell.user_ns, shell.user_ns_hidden)
            changes = names.changes(self._names, after, shell.user_ns)
        except Exception:
            # User code can break whatever is looked at here; the end itself must still be told.
            return {"added": [], "changed": [], "removed": []}
        self._names = after
        return changes


# (results, their bytes)
Expressions = tuple[list[dict[str, Any]], bytes]
# (`End`, expressions, the exception)
Ended = tuple[Any, Expressions, BaseException | None]
_NOTHING: Expressions = ([], b"")


def _variant(value: Any) -> tuple[str, Any]:
    """An enum's variant as serde writes it: its name, and what it holds."""
    return (value, None) if isinstance(value, str) else next(iter(value.items()))


def _named(name: str, value: str) -> dict[str, str]:
    return {"name": errors.clipped(name, errors.NAME), "value": value}


def _driven(run: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine that never awaits."""
    try:
        run.send(None)
    except StopIteration as stop:
        return stop.value
    run.close()
    raise RuntimeError("the cell awaits, though it was compiled as code that does not")


def _leave_child(error: BaseException | None) -> None:
    """A forked child has come to the end of its cell. It has no shim to tell, and must not go on."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if isinstance(error, SystemExit):
        os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
    if error is not None and not isinstance(error, Exception):
        traceback.print_exception(error)
    os._exit(0 if error is None else 1)
