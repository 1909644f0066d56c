"""The worker: runs a notebook's code inside the sandbox. `main.py` is where it begins.

Needs the standard library and IPython. Speaks the worker hop of `proto/` (worker.rs) over file
descriptor 3, and writes text to 1 and 2.
"""
