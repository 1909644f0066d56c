"""install.sh into a folder of the test's own: what it writes, what it leaves, and that it says so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("cellblockd", "cellblock-shim", "cellctl")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """An archive as `cargo xtask dist` packs it, with programs that do nothing."""
    folder = tmp_path / "cellblock"
    shutil.copytree(ROOT / "deploy", folder)
    shutil.copytree(ROOT / "docs", folder / "doc")
    (folder / "bin").mkdir()
    for program in PROGRAMS:
        (folder / "bin" / program).write_text("#!/bin/sh\n")
    return folder


def install(unpacked: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([unpacked / "install.sh", *options], capture_output=True, text=True, check=False)


def files(folder: Path) -> dict[str, int]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in found}


@pytest.mark.parametrize(
    ("prefix", "units"),
    [("/usr/local", "usr/local/lib/systemd"), ("/usr", "usr/lib/systemd"), ("/opt/cellblock", "etc/systemd")],
)
def test_every_file_is_where_systemd_and_people_look(
    unpacked: Path, tmp_path: Path, prefix: str, units: str
) -> None:
    target = tmp_path / "root"
    done = install(unpacked, "--destdir", str(target), "--prefix", prefix)
    assert done.returncode == 0, done.stderr
    made = files(target)
    for program in PROGRAMS:
        assert made[f"{prefix[1:]}/bin/{program}"] == 0o755
    for unit in ("cellblockd.socket", "cellblockd.service", "cellblock-workers.service"):
        assert made[f"{units}/system/{unit}"] == 0o644
        text = (target / units / "system" / unit).read_text()
        assert prefix == "/usr/local" or "/usr/local/" not in text
        assert unit.endswith("socket") or f"ExecStart={prefix}/bin/cellblock" in text
    assert f"{prefix[1:]}/share/doc/cellblock/checkpoints.md" in made
    assert "etc/cellblock/cellblockd.env" in made
    # Each step was said before it was done.
    for path in made:
        assert f"{target}/{path}\n" in done.stdout


def test_settings_are_kept_and_the_rest_goes(unpacked: Path, tmp_path: Path) -> None:
    target = tmp_path / "root"
    install(unpacked, "--destdir", str(target))
    settings = target / "etc/cellblock/cellblockd.env"
    settings.write_text("CELLBLOCK_PYTHON=/mine\n")
    assert install(unpacked, "--destdir", str(target)).returncode == 0
    assert settings.read_text() == "CELLBLOCK_PYTHON=/mine\n"
    done = install(unpacked, "--destdir", str(target), "--uninstall")
    assert done.returncode == 0, done.stderr
    assert list(files(target)) == ["etc/cellblock/cellblockd.env"]


def test_units_of_users_are_installed_without_the_system_s(unpacked: Path, tmp_path: Path) -> None:
    target = tmp_path / "root"
    assert install(unpacked, "--destdir", str(target), "--user").returncode == 0
    made = files(target)
    assert "usr/local/lib/systemd/user/cellblockd.socket" in made
    assert not [path for path in made if "/system/" in path or "sysusers" in path or path.endswith(".env")]


def test_dry_run_says_all_and_does_nothing(unpacked: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    done = install(unpacked, "--dry-run", "--python", "python3", "--start", "--prefix", "/nonexist/cellblock")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == before
    assert not Path("/nonexist").exists()
    for step in ("bin/cellblockd", "systemd-sysusers", "-m venv", "systemctl enable --now cellblockd.socket"):
        assert step in done.stdout
    assert "systemctl enable" not in install(unpacked, "--dry-run").stdout.replace("next: systemctl", "")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--prefix", "here"], "--prefix must be absolute"),
        (["--prefix", "/a b"], "--prefix must be absolute"),
        (["--destdir", "/nonexist", "--start"], "without --start"),
        (["--unknown"], "unknown option --unknown"),
        (["--python"], "--python needs a value"),
    ],
)
def test_bad_options_are_refused_before_anything_is_done(
    unpacked: Path, options: list[str], complaint: str
) -> None:
    done = install(unpacked, *options)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert not done.stdout


def test_who_is_not_root_is_told(unpacked: Path) -> None:
    # Root's temporary folders are nobody else's.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        script = shutil.copytree(unpacked, Path(folder) / "cellblock") / "install.sh"
        nobody = 65534 if os.geteuid() == 0 else None
        done = subprocess.run(
            [script], capture_output=True, text=True, check=False, user=nobody, group=nobody, cwd=folder
        )
    assert done.returncode == 1
    assert "run it as root" in done.stderr


def test_units_install_no_seccomp_filter() -> None:
    """Options that do, by systemd.exec(5); a worker's `Seccomp:` must be 0."""
    filters = (
        "SystemCallFilter SystemCallArchitectures SystemCallLog RestrictAddressFamilies RestrictNamespaces "
        "MemoryDenyWriteExecute RestrictRealtime RestrictSUIDSGID LockPersonality PrivateDevices "
        "ProtectClock ProtectHostname ProtectKernelTunables ProtectKernelModules ProtectKernelLogs"
    ).split()
    for unit in [*(ROOT / "deploy/systemd").iterdir(), *(ROOT / "deploy/user").iterdir()]:
        for line in unit.read_text().splitlines():
            assert line.split("=")[0] not in filters, f"{unit.name}: {line}"
            assert line.split("=")[0] not in ("ProtectProc", "ProcSubset"), f"{unit.name}: {line}"


def apparmor_version() -> int:
    parser = shutil.which("apparmor_parser", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if parser is None:
        return 0
    told = subprocess.run([parser, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)", told)
    return int(found[1]) if found else 0


@pytest.mark.skipif(apparmor_version() < 4, reason="needs the parser of AppArmor 4, which knows `userns,`")
def test_profile_of_apparmor_parses() -> None:
    # Neither loaded nor cached.
    command = [
        "apparmor_parser",
        "--skip-kernel-load",
        "--skip-cache",
        ROOT / "deploy/apparmor/cellblock-shim",
    ]
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": path})
    assert done.returncode == 0, done.stderr
