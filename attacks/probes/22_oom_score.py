"""Makes itself the last to be ended when memory is short."""

from attack import attempt, saw


def lower():
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-500")


attempt("lower", lower)
try:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("0")
except OSError:
    pass
saw()
