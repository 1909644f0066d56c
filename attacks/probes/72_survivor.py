"""Goes on for a second, whoever beside it is killed meanwhile."""

import time

from attack import note, saw

print("begun", flush=True)
time.sleep(1)
note("through", "done")
saw()
