"""Changes the mode of the program it runs, to the mode it has."""

import os
import stat

from attack import attempt, saw

mode = stat.S_IMODE(os.stat("/proc/self/exe").st_mode)
attempt("chmod", lambda: os.chmod("/proc/self/exe", mode))
saw()
