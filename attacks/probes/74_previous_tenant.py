"""Looks for what the worker before it has left."""

import os
import sys

from attack import note, saw

found = [name for name in ("/tmp", "/dev/shm") if os.path.exists(f"{name}/cellblock-trace")]
found += ["environment"] * ("CELLBLOCK_TRACE" in os.environ) + ["module"] * ("cellblock_trace" in sys.modules)
note("traces", ",".join(found) or "none")
saw()
