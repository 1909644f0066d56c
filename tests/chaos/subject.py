"""A notebook under chaos: runs cells in it, reads them to their ends, and asks the model if that may be."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from tests.faults.daemon import Daemon

from cellblock import (
    CellblockError,
    Client,
    ConnectError,
    ConnectionLost,
    Execution,
    InputRequest,
    Notebook,
    Notice,
    Outcome,
    Output,
    RequestRefused,
    ShuttingDown,
    Stream,
    Timeout,
    Truncated,
    UnknownExecution,
    UnknownNotebook,
)

from . import cells, model
from .model import Applied
from .record import Cell, Counts, Record

T = TypeVar("T")

BOUND_SECONDS: Final = 120.0
"""No request takes longer, whatever is killed meanwhile; each takes well below a second by itself."""

_LATE_SECONDS: Final = 1.0
"""Between the moment of a kill and the moment when nobody can be in its way any more."""

DISK_FILLED: Final = "disk filled"

_LOOKS: Final = 5

_OUTCOMES_OUTLIVE_DAEMON = True
"""Whether an Execution that has ended is known to a cellblockd that was started after that."""


class Subject:
    """One notebook, and what is known of it. Who drives it holds `lock`."""

    def __init__(self, daemon: Daemon, name: str, profile: str, counts: Counts) -> None:
        self.name = name
        self.profile = profile
        self.lock = threading.Lock()
        self.history: deque[str] = deque(maxlen=40)
        self._daemon = daemon
        self._counts = counts
        self._model = model.Notebook()
        self._last = 0
        self._pending: list[Record] = []
        self._ended: deque[Record] = deque(maxlen=20)
        self._harm: deque[tuple[float, str]] = deque()
        """When somebody has killed a part of it, or filled its disk, and what; newest last."""
        self._saved: deque[int] = deque()
        self._looked = 0.0
        self._looks = 0
        self._disk_was_full = False

    def harm(self, what: str, *, lasting_seconds: float = 0.0) -> None:
        """The killer says so before and after each kill."""
        self._disk_was_full |= what == DISK_FILLED
        self._harm.append((time.monotonic() + lasting_seconds, what))

    def saved(self, execution: str) -> None:
        """An event says that the variables after an Execution are saved."""
        if execution.startswith("cell-"):
            self._saved.append(int(execution.removeprefix("cell-")))

    def broke(self, what: str) -> None:
        """Something does not hold."""
        self._write_down(what, self._counts.violations)

    def _write_down(self, what: str, where: list[str]) -> None:
        history = "\n    ".join(self.history)
        log = "\n    ".join(self._daemon.log_of(self.name))
        with self._counts.guard:
            where.append(
                f"{self.name} ({self.profile}): {what}\n  history:\n    {history}\n  log:\n    {log}"
            )

    def notebook(self, client: Client) -> Notebook:
        """It, as a client sees it."""
        return Notebook(client, self.name, self.profile)

    def open(self, client: Client) -> None:
        """Makes it known, if it is not."""
        patiently(lambda: client.open(self.name, self.profile, timeout=BOUND_SECONDS))

    # What a client does with it.

    def run(self, client: Client, burst: Sequence[Cell]) -> None:
        """Sends cells together, and reads each to its end, or goes away before."""
        if any(record.kind.asks for record in self._pending):
            # Nothing runs behind it until somebody answers.
            self.settle(client)
        self._find(client)
        executions = []
        for cell in burst:
            record, execution = self._submit(client, cell)
            executions.append((cell, record, execution))
            if cell is not burst[-1]:
                # Each is sent over a connection of its own, and only who is accepted has its place.
                self._guarded(client, record, execution.wait_accepted)
        for cell, record, execution in executions:
            if record not in self._pending:
                continue
            if cell.leave_after is not None:
                self._counts.add(self._counts.did, "client vanished")
            self._guarded(client, record, partial(self._read, record, execution, cell.leave_after))
        self._conclude_all()

    def settle(self, client: Client) -> None:
        """Reads to its end all that somebody has left, oldest first."""
        for record in list(self._pending):
            if record.outcome is None:
                self._counts.add(self._counts.did, "re-attached")
                self._guarded(
                    client, record, partial(self._read_from, client, record, record.reading.next_seq)
                )
        self._conclude_all()

    def _find(self, client: Client) -> None:
        """Waits until all that somebody has sent has its place: who went at once may be on its way yet."""
        for record in [record for record in self._pending if not record.accepted]:
            self._guarded(client, record, partial(self._read_from, client, record, 0, leave_after=0))

    def look(self, client: Client) -> None:
        """Looks until there is something to be seen: who comes just after a kill meets it first."""
        for _ in range(_LOOKS):
            looked = self._looks
            self.run(client, [Cell(cells.LOOK, "none")])
            if self._looks != looked or self._daemon.is_disk_full():
                return
            time.sleep(_LATE_SECONDS)
        self.broke("no cell runs any more")

    def again(self, client: Client, choice: random.Random) -> None:
        """Asks for one that has ended, as another client would: all must be the same."""
        if not self._ended:
            return
        record = choice.choice(list(self._ended))
        seq = choice.randrange(record.reading.next_seq + 1) if choice.random() < 0.5 else 0
        known_faults = len(record.reading.faults)
        try:
            self._read_from(client, record, seq)
        except UnknownExecution as error:
            if not self._may_be_forgotten(record):
                self.broke(f"{record.id} is no more: {error}")
            self._counts.add(self._counts.did, "re-read, gone with its cellblockd")
        self._counts.add(self._counts.did, "re-read after the end")
        for fault in record.reading.faults[known_faults:]:
            self.broke(f"{record.id} read again from {seq}: {fault}")

    def checkpoint(self, client: Client) -> None:
        """Saves on request."""
        last = max(self._model.expected, default=0)
        saved = self._ask("checkpoint", client, lambda nb: nb.checkpoint(timeout=BOUND_SECONDS))
        if saved is not None and saved.is_saved and last:
            self._counts.add(self._counts.did, "saved on request")
            for number in self._model.expected:
                self._model.acknowledge(number)

    def restart(self, client: Client) -> None:
        """A new worker without variables."""
        done = self._ask("restart", client, _restart)
        self._model.give_up(0, self._last, is_sure=done is not None)
        self._counts.add(self._counts.did, "restarted")

    def restore(self, client: Client, choice: random.Random) -> None:
        """Goes back to a checkpoint."""
        listed = self._ask("checkpoints", client, lambda nb: nb.checkpoints(timeout=BOUND_SECONDS))
        known = [info for info in listed or () if info.execution.startswith("cell-") and info.damage is None]
        if not known:
            return
        info = choice.choice(known)
        self._note(f"restore {info.id} of {info.execution}")
        done = self._ask("restore", client, lambda nb: nb.restore(info.id, timeout=BOUND_SECONDS))
        self._model.give_up(int(info.execution.removeprefix("cell-")), self._last, is_sure=done is not None)
        self._counts.add(self._counts.did, "restored on request")

    def ask_something(self, client: Client, choice: random.Random) -> None:
        """A question that changes nothing."""
        ask: Callable[[Notebook], object] = choice.choice(
            (
                lambda nb: nb.status(timeout=BOUND_SECONDS),
                lambda nb: nb.variables(timeout=BOUND_SECONDS),
                lambda nb: nb.complete("chao", timeout=BOUND_SECONDS),
                lambda nb: nb.checkpoints(timeout=BOUND_SECONDS),
                lambda nb: nb.history(timeout=BOUND_SECONDS),
            )
        )
        self._ask("question", client, ask)

    # What comes of it.

    def _ask(self, what: str, client: Client, ask: Callable[[Notebook], T]) -> T | None:
        begun = time.monotonic()
        try:
            return patiently(lambda: ask(self.notebook(client)))
        except UnknownNotebook:
            self.open(client)
        except RequestRefused as error:
            self._note(f"{what}: {type(error).__name__}: {error}")
            self._counts.add(self._counts.refused, f"{what}: {error.code}")
        except Timeout as error:
            self.broke(f"{what} hangs: {error}")
        finally:
            self._counts.took(time.monotonic() - begun, f"{self.name}: {what}")
        return None

    def _submit(self, client: Client, cell: Cell) -> tuple[Record, Execution]:
        self._last += 1
        record = Record(self._last, cell.kind, time.monotonic())
        self._note(f"{record.id} {cell.kind.name}, checkpoint {cell.checkpoint}, leaves {cell.leave_after}")
        execution = patiently(
            lambda: self.notebook(client).execute(
                cells.code(cell.kind, record.number),
                execution_id=record.id,
                checkpoint=cell.checkpoint,
                stop_on_error=False,
                allow_stdin=cell.kind.asks,
                transactional=cell.kind.transactional,
                wall_seconds=cell.kind.wall_seconds,
                timeout=BOUND_SECONDS,
                reconnect_seconds=BOUND_SECONDS,
            )
        )
        self._pending.append(record)
        return record, execution

    def _read(self, record: Record, execution: Execution, leave_after: int | None = None) -> None:
        """Reads to the end, or goes away after so many outputs; before it was accepted when negative."""
        count = 0
        try:
            if leave_after is not None and leave_after < 0:
                return
            execution.wait_accepted()
            record.accepted = True
            while count != leave_after:
                output = next(execution, None)
                if output is None:
                    assert execution.outcome is not None, "reading stops at the Outcome"
                    self._take_outcome(record, execution.outcome, execution.next_seq)
                    return
                count += 1
                self._take(record, execution, output)
        finally:
            execution.close()

    def _guarded(self, client: Client, record: Record, act: Callable[[], None]) -> None:
        """Whatever cellblockd answers; one of which nobody knows any more is not waited for."""
        begun = time.monotonic()
        try:
            act()
            return
        except (UnknownExecution, UnknownNotebook) as error:
            self._unknown(client, record, error)
            why = str(error)
        except RequestRefused as error:
            self._counts.add(self._counts.refused, f"cell: {error.code}")
            if record.accepted:
                self.broke(f"{record.id} was accepted and then refused: {error!r}")
            elif error.code != "busy" and self._harmed(record.begun) is None and not self._is_full(error):
                self.broke(f"{record.id} was refused, and nobody did anything: {error!r}")
            why = str(error)
        except Timeout as error:
            self.broke(f"{record.id} ({record.kind.name}) hangs: {error}")
            why = str(error)
        except CellblockError as error:
            self.broke(f"{record.id} ({record.kind.name}): {error!r}")
            why = str(error)
        finally:
            self._counts.took(time.monotonic() - begun, f"{self.name}: {record.id}, {record.kind.name}")
        self._pending.remove(record)
        self._note(f"{record.id}: {why}")
        self._model.concluded(record.number, Applied.MAYBE)
        self._model.tell(why)
        self._model.excuse(why)

    def _read_from(self, client: Client, record: Record, seq: int, leave_after: int | None = None) -> None:
        record.reading.begin(seq)
        try:
            self._attach(client, record, seq, leave_after)
        except UnknownNotebook:
            # A cellblockd that was started after its last worker had gone learns of it by its name.
            self.open(client)
            self._attach(client, record, seq, leave_after)

    def _attach(self, client: Client, record: Record, seq: int, leave_after: int | None) -> None:
        execution = patiently(
            lambda: self.notebook(client).attach(
                record.id, seq, timeout=BOUND_SECONDS, reconnect_seconds=BOUND_SECONDS
            )
        )
        self._read(record, execution, leave_after)

    def _unknown(self, client: Client, record: Record, error: RequestRefused) -> None:
        """Nobody knows of it: it never arrived, or went together with all who knew of it."""
        if isinstance(error, UnknownNotebook):
            self.open(client)
        if not record.accepted:
            self._counts.add(self._counts.did, "never arrived")
        elif not self._may_be_forgotten(record):
            self.broke(f"{record.id} was accepted and is unknown: {error!r}")
        else:
            self._counts.add(self._counts.did, "gone with its cellblockd")

    def _take(self, record: Record, execution: Execution, output: Output) -> None:
        is_mark = isinstance(output, Truncated)
        content = output.data if isinstance(output, Stream) else repr(output).encode()
        record.reading.output(output.seq, content, is_mark=is_mark)
        if isinstance(output, Stream):
            record.streams[output.seq] = output
        elif isinstance(output, Notice):
            record.notices.append(output)
        if isinstance(output, InputRequest) and not record.answered:
            self._act(record, lambda: execution.answer(str(record.number), timeout=BOUND_SECONDS))
        if record.kind.cancels and not record.answered and b"runs\n" in content:
            self._act(record, lambda: execution.cancel(timeout=BOUND_SECONDS))

    def _act(self, record: Record, act: Callable[[], None]) -> None:
        # Refused when another reader has done it, or when the worker has just gone.
        with contextlib.suppress(RequestRefused):
            patiently(act)
        record.answered = True

    def _take_outcome(self, record: Record, outcome: Outcome, outputs: int) -> None:
        # What became of a checkpoint may be known better to the next who asks.
        record.reading.end(f"{outcome.end} {outcome.execution_count} {outcome.lost}", outputs)
        if record.outcome is None:
            record.outcome = outcome

    def _conclude_all(self) -> None:
        """In order: what a cell finds is what those before it have left."""
        while self._pending and self._pending[0].outcome is not None:
            self._conclude(self._pending.pop(0))

    def _conclude(self, record: Record) -> None:
        outcome = record.outcome
        assert outcome is not None, "it has ended"
        state = outcome.checkpoint
        word = None if state is None else state.reason or state.state
        self._note(
            f"{record.id}: {outcome.end}, checkpoint {word}, "
            f"lost {outcome.lost}, notices {[notice.text[:300] for notice in record.notices]}"
        )
        self._counts.add(self._counts.ends, outcome.kind)
        for notice in record.notices:
            self._model.tell(notice.text)
        if record.reading.marks:
            self._model.tell("output is missing")
        for fault in record.reading.faults:
            self.broke(f"{record.id}: {fault}")
        seen, text = cells.split(record.stdout)
        self._look(record, seen)
        applied = record.applied(seen is not None)
        self._model.concluded(record.number, applied)
        self._check_end(record, outcome)
        self._check_text(record, outcome, text)
        if outcome.lost is not None or outcome.rolled_back:
            self._model.tell(f"{record.id}: {outcome.end}, lost {outcome.lost}")
            self._model.excuse(f"{record.id}: {outcome.end}")
        if state is not None:
            self._counts.add(self._counts.did, f"checkpoint {state.state}")
            if state.is_saved and applied is Applied.YES:
                self._model.acknowledge(record.number)
        record.streams.clear()
        self._ended.append(record)

    def _look(self, record: Record, seen: model.Seen | None) -> None:
        # What comes after it says nothing about what it finds.
        for number in list(self._saved):
            if number < record.number:
                self._saved.remove(number)
                self._model.acknowledge(number)
        if seen is None:
            return
        for _, what in list(self._harm):
            self._model.excuse(what)
        finding = self._model.look(seen)
        self._looks += 1
        # What happened since it was sent may show later only.
        while self._harm and self._harm[0][0] < record.begun - _LATE_SECONDS:
            self._harm.popleft()
        self._looked = record.begun
        self._counts.add(self._counts.found, finding.kind)
        if finding.is_violation:
            self.broke(f"{record.id} finds: {finding.kind}: {finding.detail}")
        elif finding.is_rare:
            self._write_down(f"{record.id} finds: {finding.kind}: {finding.detail}", self._counts.rarities)

    def _check_end(self, record: Record, outcome: Outcome) -> None:
        if outcome.kind in record.kind.ends or self._harmed(record.begun) is not None:
            return
        if "Read-only file system" in str(outcome.end) and self._disk_was_full:
            # An image that could not be written stays so for as long as its worker lives.
            self._counts.add(self._counts.did, "workspace read-only since the disk was full")
            return
        if self._is_full(outcome.end):
            return
        self.broke(f"{record.id} ({record.kind.name}) ends so, and nobody did anything: {outcome.end}")

    def _check_text(self, record: Record, outcome: Outcome, text: str) -> None:
        if record.kind.text is None or not record.reading.is_complete:
            return
        wanted = record.kind.text(record.number)
        # Who was cancelled may not have begun.
        is_whole = outcome.kind in record.kind.ends and outcome.kind not in ("worker_died", "cancelled")
        if text == wanted or (not is_whole and wanted.startswith(text)):
            return
        at = next((at for at, (one, two) in enumerate(zip(text, wanted, strict=False)) if one != two), -1)
        self.broke(
            f"{record.id} ({record.kind.name}, {outcome.end}) has another text than it wrote: "
            f"{len(text)} of {len(wanted)} characters, from {at} on {text[at : at + 80]!r}"
        )

    def _may_be_forgotten(self, record: Record) -> bool:
        return not _OUTCOMES_OUTLIVE_DAEMON and self._daemon_killed(record.begun)

    def _is_full(self, said: object) -> bool:
        """Whether something says that the disk is full, and it is: by what the notebooks keep."""
        is_full = "No space left on device" in str(said) and self._daemon.is_disk_full()
        if is_full:
            self._counts.add(self._counts.did, "refused, the disk being full of what is kept")
        return is_full

    def _harmed(self, since: float) -> str | None:
        return next((what for when, what in list(self._harm) if when >= since - _LATE_SECONDS), None)

    def _daemon_killed(self, since: float) -> bool:
        return any(when >= since - _LATE_SECONDS for when in list(self._counts.daemon_kills))

    def _note(self, what: str) -> None:
        self.history.append(f"{time.monotonic():.2f} {what}")


def _restart(notebook: Notebook) -> bool:
    notebook.restart(timeout=BOUND_SECONDS)
    return True


def patiently(ask: Callable[[], T]) -> T:
    """Asks also while cellblockd is just being started again."""
    until = time.monotonic() + BOUND_SECONDS
    while True:
        try:
            return ask()
        except (ConnectError, ConnectionLost, ShuttingDown):
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
