"""What the acceptance cases of the old `ExecutionService` run against: the drop-in and a real cellblockd.

    python cases.py --executor tests/acceptance/executor.py

`CELLBLOCK_BIN_DIR` is the folder of the built programs, `CELLBLOCK_TEST_PYTHON` the workers' interpreter;
by default those that `cargo xtask test` makes in `target/`. Cases name their notebooks `A01-6f2e9c`, with a
suffix for a case's further ones; when another case begins, those of the one before are deleted, so that
there are only ever a few workers.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
# Whoever runs the cases need not have the client installed.
sys.path.insert(0, str(ROOT / "clients/python/src"))

from cellblock import ExecutionService, LocalSupervisor  # noqa: E402

BIN_DIR: Final = os.environ.get("CELLBLOCK_BIN_DIR") or str(ROOT / "target/debug")
PYTHON: Final = os.environ.get("CELLBLOCK_TEST_PYTHON") or str(ROOT / "target/python/worker/bin/python")

WALL_SECONDS: Final = 7.5
"""Below the 8 that the cases allow, and enough for a first import of everything on a slow machine."""

_CASE: Final = re.compile(r"[^-]+-[0-9a-f]{6}")


class Executor:
    """What `cases.py` asks for."""

    def __init__(self) -> None:
        self.nb = ""
        self._state = tempfile.TemporaryDirectory(prefix="cb-acceptance-")
        self._case: str | None = None
        self._notebooks: set[str] = set()
        # A case may run cells of two notebooks at the same time.
        self._entering = threading.Lock()
        self._start()

    def run(self, notebook_id: str, code: str, **opts: bool) -> dict[str, Any]:
        """The result of a cell as JSON has it."""
        self._enter(notebook_id)
        result = self._service.execute_code(code, "cell", notebook_id, **opts)
        plain: dict[str, Any] = json.loads(result.model_dump_json())
        return plain

    def restart(self) -> None:
        """Ends cellblockd and every worker, and starts it over the same state."""
        self._stop()
        self._start()

    def clear(self, notebook_id: str) -> None:
        """User data gone, helpers usable."""
        self._service.clear_namespace(notebook_id)

    def reset(self, notebook_id: str) -> None:
        """No saved state, and a new process."""
        self._service.clear_saved_state(notebook_id)
        self._service.close_notebook(notebook_id)

    def vars(self) -> dict[str, Any]:
        """Variable info of the notebook in `nb`."""
        return self._service.get_variable_info(self.nb)

    def var(self, name: str) -> dict[str, Any]:
        """A variable's content."""
        return self._service.get_variable_content(self.nb, name)

    def json_ok(self, result: dict[str, Any]) -> bool:
        """Whether it is strict JSON still."""
        json.dumps(result, allow_nan=False, ensure_ascii=False).encode()
        return True

    def close(self) -> None:
        """Ends everything."""
        self._stop()
        self._state.cleanup()

    def _enter(self, notebook_id: str) -> None:
        found = _CASE.match(notebook_id)
        case = found[0] if found else notebook_id
        with self._entering:
            if case != self._case:
                for notebook in self._notebooks:
                    self._service.delete_notebook(notebook)
                self._notebooks.clear()
                self._case = case
            self._notebooks.add(notebook_id)

    def _start(self) -> None:
        self._supervisor = LocalSupervisor(PYTHON, self._state.name, bin_dir=BIN_DIR)
        self._client = self._supervisor.client(timeout=60)
        self._service = ExecutionService(self._client, wall_seconds=WALL_SECONDS)

    def _stop(self) -> None:
        self._service.close()
        self._client.close()
        self._supervisor.stop()
