"""Walks through all it can see and looks for Unix sockets with a name."""

import os
import stat

from attack import GIVEN, note, outside, saw

found = []
waiting = [GIVEN["folder"]] if outside() else ["/"]
looked = 0
while waiting and looked < 400_000:
    try:
        entries = list(os.scandir(waiting.pop()))
    except OSError:
        continue
    for entry in entries:
        looked += 1
        if entry.is_dir(follow_symlinks=False):
            if entry.path not in ("/proc", "/workspace", "/sys"):
                waiting.append(entry.path)
        elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
            try:
                is_socket = stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
            except OSError:
                continue
            if is_socket:
                found.append(entry.path)
note("walk", "cut" if waiting else "whole")
note("sockets", ",".join(found[:3]) or "none")
saw()
