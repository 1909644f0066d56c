"""Makes devices: a character one, a block one, and the one that anybody may make."""

import os
import stat
import tempfile

from attack import attempt, saw

for name, folder in (("tmp", "/tmp"), ("here", ".")):
    folder = tempfile.mkdtemp(dir=folder)
    for kind, mode, device in (
        ("char", stat.S_IFCHR, os.makedev(1, 3)),
        ("block", stat.S_IFBLK, os.makedev(7, 0)),
        ("whiteout", stat.S_IFCHR, 0),
    ):
        path = f"{folder}/{kind}"
        attempt(
            f"{name}_{kind}", lambda path=path, mode=mode, device=device: os.mknod(path, mode | 0o600, device)
        )
        if os.path.lexists(path):
            os.unlink(path)
    os.rmdir(folder)
saw()
