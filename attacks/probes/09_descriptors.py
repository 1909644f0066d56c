"""Opens 2000 descriptors."""

import os
import resource

from attack import attempt, saw

most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most[1], most[1]))
held = []
attempt("files", lambda: [held.append(os.dup(0)) for _ in range(2000)] and None)
for number in held:
    os.close(number)
resource.setrlimit(resource.RLIMIT_NOFILE, most)
saw()
