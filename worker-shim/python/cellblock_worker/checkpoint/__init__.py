"""Saves the user's variables and brings them back in another process.

`save` gives one pickle with its large buffers beside it, `load` takes them. Each kind of object has its
module: `functions`, `classes`, `generics`, `standard`, `files`, `arrays`, `frames`; `left_out` lists what is
not saved, `tombstone` is what stands in its place. Neither storage nor forking is known here.
"""

from .ambient import Baseline
from .loading import Loaded, load
from .saving import save
from .subject import Saved, Subject
from .tombstone import NotRestored

__all__ = ["Baseline", "Loaded", "NotRestored", "Saved", "Subject", "load", "save"]
