"""Rewrites the code that runs cells, from inside."""

import builtins
import gc
import json
import sys

from attack import note, outside, saw

if outside():
    json.dumps = lambda *_, **__: "mine"
    note("patched", "yes" if sys.modules["json"].dumps({}) == "mine" else "no")
    saw()
else:
    for name in [name for name in sys.modules if name.startswith("cellblock_worker")]:
        for key, value in list(vars(sys.modules[name]).items()):
            if callable(value) and not key.startswith("__"):
                setattr(sys.modules[name], key, lambda *_, **__: "mine")
    for thing in gc.get_objects():
        if type(thing).__module__.startswith("cellblock_worker"):
            try:
                vars(thing).clear()
            except TypeError:
                pass
    builtins.repr = lambda _: "mine"
    note("patched", "yes")
    saw()
