"""Reserves more than one process may have, then touches more than the notebook may have."""

import time

from attack import GIVEN, attempt, outside, saw

attempt("reserve", lambda: bytearray(GIVEN["memory_bytes"] // 4 * 5 + (640 << 20)) and None)
saw()
kept = []


def grow():
    for _ in range((GIVEN["memory_bytes"] + (96 << 20)) >> 23):
        kept.append(bytearray(b"x") * (8 << 20))
    # Held until whoever watches ends it; where nobody does, there is nothing to wait for.
    time.sleep(0 if outside() else 5)


attempt("touch", grow)
kept.clear()
saw()
