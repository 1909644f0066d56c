"""Makes more empty files than /tmp may hold."""

import os
import tempfile

from attack import GIVEN, attempt, saw

folder = tempfile.mkdtemp(dir="/tmp")
made = []


def make():
    for number in range(GIVEN["tmp_inodes"] + 100):
        os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY))
        made.append(number)


attempt("inodes", make)
for number in made:
    os.unlink(f"{folder}/{number}")
os.rmdir(folder)
saw()
