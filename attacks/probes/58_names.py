"""Opens notebooks under names that are paths, too long, or no text; a client does it, not a cell."""

import os

from attack import note, saw

# The control: a name that is joined to a path as it comes leads out of the folder.
joined = os.path.normpath(os.path.join("/state/notebooks", "../../etc"))
note("joined", "inside" if joined.startswith("/state/notebooks/") else "outside")
saw()
