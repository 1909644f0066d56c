"""`LocalSupervisor` with programs that pretend to be cellblockd; the real one is in `test_end_to_end`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cellblock import LocalSupervisor, SupervisorStartFailed


def pretend(folder: Path, script: str) -> Path:
    program = folder / "cellblockd"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return folder


def leftovers() -> set[str]:
    return {path.name for path in Path("/tmp").glob("cb-*") if not path.name.startswith("cb-fake-")}


def test_it_ends_with_its_lifeline_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = leftovers()
    monkeypatch.setenv("CELLBLOCK_CACHE_DIR", "/cache")
    monkeypatch.setenv("CELLBLOCK_STATE_DIR", "/of/the/system")
    bin_dir = pretend(
        tmp_path,
        f"""echo "$@" > {tmp_path}/arguments; echo "$CELLBLOCK_STATE_DIR" > {tmp_path}/state
        echo said >&2; echo ready "$3/api.sock"; cat; rmdir "$3" && : > {tmp_path}/ended""",
    )
    with LocalSupervisor(python="/usr/bin/python3", bin_dir=bin_dir, profiles="/profiles") as supervisor:
        arguments = (tmp_path / "arguments").read_text().split()
        folder = supervisor.socket_path.parent
        assert supervisor.socket_path == folder / "api.sock"
        assert arguments == [
            "--private", "--runtime-dir", f"{folder}",
            "--cache-dir", "/cache", "--python", "/usr/bin/python3", "--profiles", "/profiles",
        ]  # fmt: skip
        assert (tmp_path / "state").read_text() == "\n"
        # All that lies in there is cellblockd's, which removes it.
        assert list(folder.iterdir()) == []
        os.kill(supervisor.pid, 0)
        assert len(str(supervisor.socket_path)) < 40
    assert (tmp_path / "ended").exists()
    assert leftovers() <= before
    supervisor.stop()
    assert supervisor.log == "said\n"


def test_a_state_folder_of_the_users_is_passed_on_and_kept(tmp_path: Path) -> None:
    before = leftovers()
    state = tmp_path / "state"
    state.mkdir()
    # It is killed before it can remove anything: then we do.
    bin_dir = pretend(tmp_path, f'echo "$4 $5" > {tmp_path}/arguments; echo ready "$3/api.sock"; exec cat')
    with LocalSupervisor(bin_dir=bin_dir, state_dir=state):
        assert (tmp_path / "arguments").read_text() == f"--state-dir {state}\n"
    assert state.is_dir()
    assert leftovers() <= before


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo no user namespaces here >&2; exit 3",
            r"ended with code 3 before it was ready; .*\nno user names",
        ),
        ("echo hello; exec cat", r"said b'hello\\n' where `ready <socket>` was expected"),
        ("exec cat", r"is not ready in time; it wrote to stderr:\n\(nothing\)"),
    ],
)
def test_a_failed_start_is_told_and_leaves_nothing(tmp_path: Path, script: str, message: str) -> None:
    before = leftovers()
    with pytest.raises(SupervisorStartFailed, match=message):
        LocalSupervisor(bin_dir=pretend(tmp_path, script), start_seconds=0.3)
    assert leftovers() <= before


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SupervisorStartFailed, match=f"no cellblockd at `{tmp_path}/cellblockd`"):
        LocalSupervisor(bin_dir=tmp_path)
    monkeypatch.delenv("CELLBLOCK_BIN_DIR", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SupervisorStartFailed, match="no cellblockd on PATH"):
        LocalSupervisor()
    (tmp_path / "cellblockd").write_text("not a program")
    with pytest.raises(SupervisorStartFailed, match="failed to start"):
        LocalSupervisor(bin_dir=tmp_path)
