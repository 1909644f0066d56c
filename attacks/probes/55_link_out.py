"""Leaves links in the workspace that lead to a folder of the host, for whoever clears up to follow."""

import os

from attack import GIVEN, note, outside, saw

os.symlink(GIVEN["folder"], "folder")
os.symlink(GIVEN["canary"], "file")
os.makedirs("deep/er")
os.symlink("../../folder", "deep/er/link")
if outside():
    # Whoever follows links gets there.
    note("canary", "reached" if os.path.exists("folder/canary") else "not_there")
else:
    note("laid", "links")
saw()
