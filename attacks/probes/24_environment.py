"""Looks for variables that nobody meant for it."""

import os

from attack import note, saw

KNOWN = """
CELLBLOCK_CACHE CELLBLOCK_NATIVE CELLBLOCK_NONCE CELLBLOCK_PROFILE HOME IPYTHONDIR LANG LC_CTYPE MPLBACKEND
MPLCONFIGDIR PATH TMPDIR USER VIRTUAL_ENV XDG_CACHE_HOME CLICOLOR CLICOLOR_FORCE COLUMNS FORCE_COLOR
CELLBLOCK_PRELOAD GIT_PAGER LINES PAGER PLOTLY_RENDERER TERM
""".split()

with open("/proc/self/environ", "rb") as file:
    names = {part.partition(b"=")[0].decode() for part in file.read().split(b"\0") if part}
unknown = sorted((names | set(os.environ)) - set(KNOWN))
note("unknown", ",".join(unknown) or "none")
saw()
