"""Starts 300 threads."""

import threading

from attack import attempt, saw

enough = threading.Event()
threads = []


def start():
    for _ in range(300):
        thread = threading.Thread(target=enough.wait)
        thread.start()
        threads.append(thread)


attempt("threads", start)
enough.set()
for thread in threads:
    thread.join()
saw()
