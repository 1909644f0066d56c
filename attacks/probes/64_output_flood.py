"""Prints 6 MiB without a newline, then 2,000 displays."""

import sys

from attack import note, outside, saw

for _ in range(96):
    sys.stdout.write("x" * 65536)
sys.stdout.flush()
if not outside():
    from IPython.display import display

    for _ in range(2000):
        display({"text/plain": ""}, raw=True)
print()
note("wrote", "done")
saw()
