"""From a namespace to the disk and back: pickler, native client and store process together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import LIBRARY, PACKAGES, ensure_library

SHIM = Path(os.environ.get("CELLBLOCK_BIN_DIR", PACKAGES.parents[1] / "target/debug")) / "cellblock-shim"
QUOTA = 1 << 30
SECONDS = 60

_BEGIN = """
import json, os, socket, sys, types
packages, library, fd = sys.argv[1:]
sys.path.insert(0, packages)
main = types.ModuleType("__main__")
sys.modules["__main__"] = main
from cellblock_worker import checkpoint, checkpoint_native, checkpoint_store
native = checkpoint_native.CheckpointNative(library)
peer = socket.socket(fileno=int(fd))
def run():
    exec(compile(sys.stdin.read(), "cell", "exec"), vars(main))
"""
_SAVE = """
run()
saved = checkpoint.save(checkpoint.Subject(vars(main)))
saved = checkpoint_store.offer(native, saved, peer, "e1", forked=True)
print("saved", saved.id, saved.written)
"""
_LOAD = """
with checkpoint_store.Opened.receive(peer) as opened:
    loaded = opened.load(native, vars(main), None)
main.loaded, main.opened = loaded, opened
run()
"""


def _saving(quota: int) -> dict[str, Any]:
    """The order for a checkpoint; the store may have as many bytes for a moment."""
    keep = {"last": 1_000, "daily": 0, "max_bytes": quota // 2}
    return {"Save": {"keep": keep, "seconds": SECONDS}}


class Store:
    """The folder, and the store processes over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ensure_library()

    @contextlib.contextmanager
    def process(self, order: dict[str, Any]) -> Iterator[tuple[int, socket.socket, int]]:
        """A store process: its pid, the other end of its socket, where it prints."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        orders, its_orders = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        printed, prints = os.pipe()
        folder = os.open(self.folder, os.O_DIRECTORY)
        socket.send_fds(orders, [json.dumps(order).encode()], [folder, theirs.fileno()])
        actions: list[Any] = [
            (os.POSIX_SPAWN_DUP2, its_orders.fileno(), 203),
            (os.POSIX_SPAWN_DUP2, prints, 201),
            (os.POSIX_SPAWN_DUP2, 203, 0),
            (os.POSIX_SPAWN_DUP2, 201, 1),
        ]
        pid = os.posix_spawn(SHIM, [str(SHIM), "--store"], {}, file_actions=actions)
        orders.close()
        its_orders.close()
        for fd in (folder, prints):
            os.close(fd)
        theirs.close()
        try:
            yield pid, ours, printed
        finally:
            ours.close()
            os.close(printed)
            os.waitpid(pid, 0)

    def save(self, cell: str, quota: int = QUOTA) -> dict[str, Any]:
        """Runs a cell, saves; what the store says of it."""
        with self.process(_saving(quota)) as (_, peer, printed):
            _python(_SAVE, cell, peer)
            with open(printed, closefd=False) as file:
                said: dict[str, Any] = json.loads(file.read())
        return said

    def unfinished_bytes(self) -> int:
        """How much there is of a pack that is being written."""
        found = 0
        for file in (self.folder / "packs").glob(".*"):
            # It may just have got its name.
            with contextlib.suppress(FileNotFoundError):
                found += file.stat().st_size
        return found

    def load(self, cell: str, checkpoint: int | None = None) -> str:
        """Loads in a fresh process and runs a cell, which asserts; what it prints."""
        with self.process({"Open": {"checkpoint": checkpoint}}) as (_, peer, _):
            return _python(_LOAD, cell, peer, must_work=True)


def _python(script: str, cell: str, peer: socket.socket, *, must_work: bool = False) -> str:
    command = [sys.executable, "-c", _BEGIN + script, str(PACKAGES), str(LIBRARY), str(peer.fileno())]
    done = subprocess.run(
        command,
        input=cell,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        pass_fds=[peer.fileno()],
        check=False,
    )
    assert done.returncode == 0 or not must_work, done.stderr
    return done.stdout


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty one."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return Store(folder)


CELL = """
import numpy as np
class Own:
    def twice(self): return factor * self.value
factor, own = 2, Own()
own.value = 21
big = np.arange(1_000_000.0)
view, equal = big[10:20], big.copy()
text = ["a" * 100] * 1000
both = [own, own]
lock = __import__("threading").Lock()
"""
CHECK = """
import numpy as np
assert own.twice() == 42 and type(own) is Own and both[0] is both[1] is own
globals()["factor"] = 3
assert own.twice() == 63
assert big.sum() == 499_999_500_000.0 and np.array_equal(big, equal)
big[10] = -1.0
assert view[0] == -1.0 and equal[10] == 10.0
assert "lock" not in globals()
assert [one["path"] for one in loaded.losses] == ["lock"], loaded.losses
print(opened.description["id"], [name["name"] for name in opened.description["manifest"]["names"]])
"""


def test_a_namespace_comes_back_from_the_disk(store: Store) -> None:
    saved = store.save(CELL)["Saved"]
    assert saved["checkpoint"] == 1
    # Two equal arrays are stored once.
    assert 8_000_000 < saved["written_bytes"] < 9_000_000
    names = "['np', 'Own', 'factor', 'own', 'big', 'view', 'equal', 'text', 'both']"
    assert store.load(CHECK) == f"1 {names}\n"


def test_only_what_has_changed_is_written(store: Store) -> None:
    store.save(CELL)
    assert store.save(CELL)["Saved"]["written_bytes"] < 50_000
    changed = store.save(CELL + "big[500_000] = 0.5")["Saved"]["written_bytes"]
    assert 256 << 10 < changed < 600_000
    assert store.load("print(big[500_000], equal[500_000])") == "0.5 500000.0\n"
    # An earlier one is there as it was.
    assert store.load("print(big[500_000])", 1) == "500000.0\n"


def test_a_store_that_is_killed_at_any_moment_leaves_the_newest_complete_one(store: Store) -> None:
    store.save("number = 0\nbig = bytearray(3_000_000)")
    for number in range(1, 8):
        cell = f"import os, numpy as np\nnumber = {number}\nbig = np.frombuffer(os.urandom(24_000_000), 'u1')"
        with store.process(_saving(QUOTA)) as (pid, peer, _):
            command = [sys.executable, "-c", _BEGIN + _SAVE, str(PACKAGES), str(LIBRARY), str(peer.fileno())]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[peer.fileno()], text=True
            ) as child:
                assert child.stdin is not None
                child.stdin.write(cell)
                child.stdin.close()
                # At another moment each time, by how much of the pack is there.
                while child.poll() is None and store.unfinished_bytes() < number * 3_000_000:
                    pass
                os.kill(pid, signal.SIGKILL)
        assert store.load("print(number, len(big))") in ("0 3000000\n", f"{number} 24000000\n")
    assert store.save("number = 100")["Saved"]["checkpoint"] > 1
    assert store.load("print(number)") == "100\n"


def test_a_damaged_pack_loses_what_lies_in_it_and_says_so(store: Store) -> None:
    store.save("import numpy as np\nbig = np.arange(100_000.0)\nsmall = 5")
    pack = store.folder / "packs/1"
    pack.chmod(0o600)
    with pack.open("r+b") as file:
        # The index too: the buffer's chunk is found by its hash no more.
        file.seek(4096 + 8)
        file.write(b"\xff" * 8)
        file.seek(-40, os.SEEK_END)
        file.write(b"\xff" * 8)
    told = store.load("print(small, 'big' in globals(), [one['path'] for one in loaded.losses])")
    assert told == "5 False ['big']\n"


def test_a_quota_is_told_and_nothing_is_published(store: Store) -> None:
    store.save("a = 1")
    said = store.save("a = 2\nimport os\nbig = os.urandom(4_000_000)", quota=1_000_000)
    assert "more than the 1000000 allowed" in said["Failed"]["reason"]
    assert store.load("print(a, 'big' in globals())") == "1 False\n"


def test_a_later_format_is_an_error_that_says_so(store: Store) -> None:
    (store.folder / "FORMAT").write_text("cellblock checkpoints 2\n")
    assert "format `2`" in store.save("a = 1")["Failed"]["reason"]
