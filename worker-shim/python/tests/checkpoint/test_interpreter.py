"""What IPython holds for the user: results, inputs, the shell itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .restore import PACKAGES

_BEGIN = """
import sys
sys.path.insert(0, sys.argv[1])
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
from cellblock_worker import checkpoint
def run(*cells):
    for cell in cells:
        shell.run_cell(cell, store_history=True).raise_error()
"""
_SAVE = (
    _BEGIN
    + """
run("x = [1]", "x", "class Tool:\\n    def shell(self): return get_ipython()",
    "t = Tool(); parts = [get_ipython()]",
    "'text'", "parts.append(get_ipython().display_formatter)",
    "open = 5", "ask = get_ipython", "b'x' * 2_000_000",
    "import json\\ndef read(text):\\n    json.loads(text)",
    "try: read('[')\\nexcept ValueError as error: kept = error")
saved = checkpoint.save(checkpoint.Subject(shell.user_ns, shell.user_ns_hidden, shell))
print([one["name"] for one in saved.names], saved.left_out, file=sys.stderr)
sys.stdout.flush()
import pickle
pickle.dump((saved.stream, [bytes(one) for one in saved.buffers]), open("saved", "wb"))
"""
)
_LOAD = (
    _BEGIN
    + """
import pickle
stream, buffers = pickle.load(open("saved", "rb"))
loaded = checkpoint.load(stream, buffers, shell.user_ns, shell)
print(loaded.losses, file=sys.stderr)
ns = shell.user_ns
assert ns["_oh"][2] is ns["x"] and ns["Out"] is ns["_oh"] and ns["_2"] is ns["x"]
assert 9 not in ns["Out"], "a large result was kept twice"
assert ns["In"][1] == "x = [1]" and ns["_i1"] == "x = [1]" and shell.execution_count == 12
assert ns["t"].shell() is shell and ns["parts"][0] is shell and ns["ask"]() is shell and ns["open"] == 5
run("y = Out[2] + _2", "assert y == [1, 1] and Tool().shell() is get_ipython()", "assert In[1] == 'x = [1]'")
# Raised again, it is shown with its places: by a tool that looks the instructions up.
shell.colors = "nocolor"
shell.run_cell("raise kept")
sys.stdout.flush()
"""
)


def test_results_inputs_and_the_shell_come_back(tmp_path: Path) -> None:
    for script in (_SAVE, _LOAD):
        done = subprocess.run(
            [sys.executable, "-c", script, str(PACKAGES)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    for place in ("in read()", "in loads()", "in raw_decode()"):
        assert place in done.stdout
    assert "'path': 'parts[1]'" in done.stderr
    assert done.stderr.count("a part of the shell") == 1
