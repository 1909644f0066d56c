"""The shim's part, in Python: starts the real worker, puts text and frames into one order."""

from __future__ import annotations

import array
import contextlib
import json
import mmap
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .zygote_start import Zygote

PACKAGES = Path(__file__).resolve().parents[1]
LIBRARY = Path(
    os.environ.get("CELLBLOCK_NATIVE_LIBRARY", PACKAGES.parents[1] / "target/debug/libcellblock_native.so")
)
SECONDS = 30.0
HEADER = struct.Struct("<BBBBIII")
MARK_BYTES = 24
START = f"import sys; sys.path.insert(0, {str(PACKAGES)!r}); import cellblock_worker.main as m; m.main()"


@dataclass
class Frame:
    """A frame from the worker."""

    request: int
    flags: int
    meta: Any
    payload: bytes


@dataclass
class Output:
    """A piece of output in its place. `kind` is the `Output` variant; streams are merged."""

    execution: str
    kind: str
    body: Any
    payload: bytes = b""

    @property
    def text(self) -> str:
        """The payload as text."""
        return self.payload.decode("utf-8", "replace")

    def part(self, mime: str) -> bytes:
        """One representation of a display or result."""
        for part in self.body["bundle"]["parts"]:
            if part["mime"] == mime:
                span = part["span"]
                return self.payload[span["offset"] : span["offset"] + span["length"]]
        raise AssertionError(f"no {mime} among {self.mimes}")

    @property
    def mimes(self) -> list[str]:
        """The representations there are."""
        return [part["mime"] for part in self.body["bundle"]["parts"]]

    @property
    def metadata(self) -> Any:
        """What a display or result says about its parts."""
        span = self.body["bundle"]["metadata"]
        return json.loads(self.payload[span["offset"] : span["offset"] + span["length"]]) if span else {}


@dataclass
class Result:
    """An Execution to its end."""

    outputs: list[Output]
    finished: Any
    payload: bytes

    @property
    def end(self) -> Any:
        """The `End`."""
        return self.finished["end"]

    def stream(self, name: str) -> str:
        """All text of one stream."""
        return b"".join(o.payload for o in self.outputs if o.kind == name).decode()

    @property
    def shape(self) -> list[tuple[str, str]]:
        """(kind, text) of all outputs; displays by their text/plain, errors by their name."""
        shape = []
        for output in self.outputs:
            if output.kind in ("stdout", "stderr"):
                shape.append((output.kind, output.text))
            elif output.kind in ("display", "result"):
                plain = "text/plain" in output.mimes
                shape.append((output.kind, output.part("text/plain").decode() if plain else ""))
            elif output.kind == "error":
                shape.append((output.kind, output.body["name"]))
            else:
                shape.append((output.kind, ""))
        return shape

    def only(self, kind: str) -> Output:
        """The one output of a kind."""
        found = [output for output in self.outputs if output.kind == kind]
        assert len(found) == 1, self.shape
        return found[0]


@dataclass
class Pipe:
    """One pipe, split at its marks."""

    name: str
    fd: int
    nonce: bytes
    pending: bytes = b""
    # Text before mark 1, before mark 2, …; the last stretch is still open.
    stretches: list[bytes] = field(default_factory=lambda: [b""])

    def read(self) -> bool:
        """Takes what is there; whether there was anything."""
        try:
            data = os.read(self.fd, 1 << 20)
        except BlockingIOError:
            return False
        self.pending += data
        while (at := self.pending.find(self.nonce)) >= 0 and len(self.pending) >= at + MARK_BYTES:
            (number,) = struct.unpack_from("<Q", self.pending, at + 16)
            assert number == len(self.stretches), f"mark {number} follows {len(self.stretches) - 1}"
            self.stretches[-1] += self.pending[:at]
            self.stretches.append(b"")
            self.pending = self.pending[at + MARK_BYTES :]
        if at < 0:
            keep = len(self.nonce) - 1
            self.stretches[-1] += self.pending[:-keep]
            self.pending = self.pending[-keep:]
        return bool(data)


class Worker:
    """A worker process and the shim's ends of its descriptors."""

    def __init__(
        self,
        *,
        cwd: Path,
        python: str = sys.executable,
        env: dict[str, str] | None = None,
        zygote: Zygote | None = None,
        claimed: bool = True,
    ) -> None:
        self.nonce = secrets.token_bytes(16)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.page_fd = os.memfd_create("page")
        os.ftruncate(self.page_fd, 4096)
        self.page = mmap.mmap(self.page_fd, 4096)
        out, out_theirs = os.pipe()
        err, err_theirs = os.pipe()
        wanted = [out_theirs, err_theirs, theirs.fileno(), self.page_fd]
        self.started = time.monotonic()
        if zygote is not None:
            assert env is None, "a worker has its zygote's environment"
            self.pid, self._waiting = zygote.fork(wanted, cwd, self.nonce, spare=not claimed)
        else:
            environment = {**environment_of(cwd), "CELLBLOCK_NONCE": self.nonce.hex(), **(env or {})}
            self.pid = execute(wanted, cwd, [python, "-I", "-c", START], environment)
        for fd in (out_theirs, err_theirs):
            os.close(fd)
        theirs.close()
        self.socket = ours
        self.socket.setblocking(False)
        for fd in (out, err):
            os.set_blocking(fd, False)
        self.out, self.err = Pipe("stdout", out, self.nonce), Pipe("stderr", err, self.nonce)
        self.frames: list[Frame] = []
        # Frames whose mark has not been reached, by mark.
        self.coming: dict[int, Frame] = {}
        self.outputs: list[Output] = []
        self.answers: dict[int, Frame] = {}
        self.finished: dict[str, Frame] = {}
        self.owner = ""
        # Sent and not finished, in order.
        self.waiting: list[str] = []
        # The beginning of each Execution's text.
        self.text: dict[str, bytes] = {}
        self.epoch = 1
        self.runs = 0
        self.eof = False
        self.status: int | None = None
        if zygote is not None and claimed:
            self.claim()
        elif zygote is None:
            self._greet()

    def claim(self) -> None:
        """Says to a forked worker that its notebook is there."""
        with self._waiting:
            self._waiting.send(b"seal")
        self._greet()

    def _greet(self) -> None:
        self.first = self._until(lambda: self.frames[0] if self.frames else None, "the first frame")
        self.ready_seconds = time.monotonic() - self.started

    # What a test says.

    def run(self, code: str | bytes, **options: Any) -> Result:
        """Executes and waits for the end."""
        return self.wait(self.start(code, **options))

    def start(self, code: str | bytes, *, execution: str | None = None, **options: Any) -> str:
        """Sends an `Execute`."""
        self.runs += 1
        execution = execution or f"e{self.runs}"
        body = {
            "execution": execution,
            "run": self.runs,
            "silent": False,
            "store_history": True,
            "allow_stdin": False,
            "echo": "last_expression",
            "user_expressions": [],
            "cell": None,
            "task": "code",
            **options,
        }
        if not self.waiting:
            # As the shim does: the text of who is about to run is his, unless somebody says otherwise.
            self.owner = execution
        self.waiting.append(execution)
        self.send({"execute": body}, code if isinstance(code, bytes) else code.encode())
        return execution

    def wait(self, execution: str) -> Result:
        """Until `Finished`."""
        frame = self._until(lambda: self.finished.get(execution), f"the end of {execution}")
        outputs = [output for output in self.outputs if output.execution == execution]
        return Result(outputs, frame.meta["body"]["finished"], frame.payload)

    def until_output(self, execution: str, text: str) -> None:
        """Until text has arrived; also text before no mark yet."""
        self._until(lambda: text in self._seen(execution) or None, repr(text))

    def ask(self, query: Any, code: str = "") -> Any:
        """A query's answer, as (answer, payload)."""
        request = 1000 + len(self.answers)
        self.send({"query": query}, code.encode(), request)
        frame = self._until(lambda: self.answers.get(request), f"the answer to {query}")
        assert frame.meta["mark"] == 0
        assert frame.flags & 1
        return frame.meta["body"]["answer"], frame.payload

    def send(self, body: Any, payload: bytes = b"", request: int = 0) -> None:
        """One command."""
        meta = json.dumps(body).encode()
        memfd = len(payload) > 64 << 10
        header = HEADER.pack(0xCB, 5, 1, 2 if memfd else 0, request, len(meta), len(payload))
        if not memfd:
            self.socket.send(header + meta + payload)
            return
        fd = os.memfd_create("code")
        os.write(fd, payload)
        self.socket.sendmsg([header + meta], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        os.close(fd)

    def interrupt(self, run: int | None = None) -> None:
        """As the shim: the word, then the signal."""
        struct.pack_into("<Q", self.page, 0, self.runs if run is None else run)
        os.kill(self.pid, signal.SIGINT)

    def exit_code(self) -> int:
        """The worker's end."""
        self._until(lambda: self._reaped(), "the worker's exit")
        assert self.status is not None
        return self.status

    def close(self) -> None:
        """Ends the worker if it lives."""
        self.socket.close()
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        for fd in (self.out.fd, self.err.fd, self.page_fd):
            os.close(fd)
        self.page.close()

    # The order.

    def _until(self, condition: Any, what: str) -> Any:
        deadline = time.monotonic() + SECONDS
        while (found := condition()) is None or found is False:
            fds = [self.out.fd, self.err.fd] + ([] if self.eof else [self.socket.fileno()])
            ready = select.select(fds, [], [], 0.05)[0]
            if ready:
                self.pump()
            if not self.eof and self._reaped():
                self.pump()
                self.eof = True
                if (found := condition()) is not None and found is not False:
                    return found
            assert self.status is None or "exit" in what, (what, self.status, self._stderr())
            assert time.monotonic() < deadline, f"no {what}: {self._seen('')!r} {self._stderr()!r}"
        return found

    def _reaped(self) -> bool | None:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return True if self.status is not None else None

    def pump(self) -> None:
        """Pipes first, then the socket: a frame is sent before its mark is written."""
        for pipe in (self.out, self.err):
            # After the worker's end everything; else a flood must not keep us from looking.
            while pipe.read() and self.status is not None:
                pass
        self._read_frames(max(len(self.out.stretches), len(self.err.stretches)))
        self._arrange()

    def _read_frames(self, enough: int) -> None:
        """All there are, or at least those with marks below `enough`."""
        seen = 0
        while not self.eof and seen < enough:
            try:
                message, control, _, _ = self.socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            except (BlockingIOError, ConnectionResetError):
                return
            if not message:
                return
            magic, kind, codec, flags, request, meta_bytes, payload_bytes = HEADER.unpack_from(message)
            assert (magic, kind, codec) == (0xCB, 6, 1)
            assert meta_bytes < 128 << 10
            end = HEADER.size + meta_bytes
            meta, payload = json.loads(message[HEADER.size : end]), message[end:]
            assert bool(flags & 2) == (payload_bytes > 64 << 10)
            if flags & 2:
                (fd,) = struct.unpack("i", control[0][2])
                payload = os.pread(fd, payload_bytes, 0)
                with contextlib.suppress(PermissionError):  # sealed
                    os.write(fd, b"x")
                    raise AssertionError("the payload is not sealed")
                os.close(fd)
            assert len(payload) == payload_bytes
            frame = Frame(request, flags, meta, payload)
            seen = max(seen, meta["mark"])
            if meta["mark"] == 0:
                self.answers[request] = frame
            else:
                self.frames.append(frame)
                self.coming[meta["mark"]] = frame

    def _arrange(self) -> None:
        closed = min(len(self.out.stretches), len(self.err.stretches)) - 1
        while self.epoch <= closed:
            for pipe in (self.out, self.err):
                self._stream(pipe.name, pipe.stretches[self.epoch - 1])
            if self.epoch in self.coming:
                self._event(self.coming.pop(self.epoch))
            self.epoch += 1

    def _stream(self, name: str, data: bytes) -> None:
        if not data:
            return
        if len(known := self.text.get(self.owner, b"")) < 100_000:
            self.text[self.owner] = known + data
        last = self.outputs[-1] if self.outputs else None
        if last and last.kind == name and last.execution == self.owner:
            last.payload += data
        else:
            self.outputs.append(Output(self.owner, name, None, data))

    def _event(self, frame: Frame) -> None:
        body = frame.meta["body"]
        if "switch" in body:
            self.owner = body["switch"]["execution"]
        elif "finished" in body:
            execution = body["finished"]["execution"]
            assert execution not in self.finished, "finished twice"
            self.finished[execution] = frame
            self.waiting.remove(execution)
            self.owner = self.waiting[0] if self.waiting else self.owner
        elif "output" in body:
            output = body["output"]["output"]
            kind, inner = next(iter(output.items()))
            self.outputs.append(Output(body["output"]["execution"], kind, inner, frame.payload))

    def _seen(self, execution: str) -> str:
        return (self.text.get(execution, b"") + self.out.stretches[-1] + self.out.pending).decode(
            "utf-8", "replace"
        )

    def _stderr(self) -> str:
        return b"".join([*self.err.stretches[-3:], self.err.pending]).decode("utf-8", "replace")


def environment_of(home: Path) -> dict[str, str]:
    """What the supervisor sets."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "IPYTHONDIR": str(home / ".ipython"),
        "MPLCONFIGDIR": str(home / ".matplotlib"),
        "CELLBLOCK_NATIVE": str(LIBRARY),
    }


def execute(files: list[int], cwd: Path, argv: list[str], environment: dict[str, str]) -> int:
    """Starts a program with /dev/null and `files` as its descriptors from 0 on; gives its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            wanted = [os.open(os.devnull, os.O_RDONLY), *files]
            high = [os.dup2(fd, 200 + at, inheritable=False) for at, fd in enumerate(wanted)]
            for at, fd in enumerate(high):
                os.dup2(fd, at, inheritable=True)
            os.chdir(cwd)
            os.execve(argv[0], argv, environment)
        finally:
            os._exit(127)
    return pid


def ensure_library() -> None:
    """Builds the native library where the workspace is there to build it from."""
    if "CELLBLOCK_NATIVE_LIBRARY" not in os.environ:
        subprocess.run(
            ["cargo", "build", "-q", "-p", "cellblock-native"], cwd=PACKAGES.parents[1], check=True
        )
