"""Leaves traces everywhere but in the workspace."""

import os
import sys
import types

for path in ("/tmp/cellblock-trace", "/dev/shm/cellblock-trace"):
    with open(path, "w") as file:
        file.write("trace")
os.environ["CELLBLOCK_TRACE"] = "trace"
sys.modules["cellblock_trace"] = types.ModuleType("cellblock_trace")


def release():
    """Takes them away again."""
    for path in ("/tmp/cellblock-trace", "/dev/shm/cellblock-trace"):
        if os.path.exists(path):
            os.unlink(path)
