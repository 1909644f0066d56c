"""Limits, priorities and processors of pid 1, which holds the sandbox together."""

import os
import resource

from attack import attempt, saw, syscall

attempt("prlimit", lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3)) and None)
attempt("affinity", lambda: os.sched_setaffinity(1, {min(os.sched_getaffinity(0))}))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))
attempt("scheduler", lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)))
attempt("ioprio", lambda: syscall("ioprio_set", 1, 1, 3 << 13) and None)
saw()
