"""Makes a second name in the workspace for a file that is not its own."""

import os

from attack import GIVEN, attempt, outside, saw

sources = (
    [GIVEN["canary"]] if outside() else ["/usr/bin/env", "/cellblock/libcellblock_native.so", "/etc/passwd"]
)
target = os.path.join(GIVEN["folder"], "second") if outside() else "second"
for number, source in enumerate(sources):
    attempt(f"link{number}", lambda source=source: os.link(source, target))
    if os.path.lexists(target):
        os.unlink(target)
saw()
