"""Chaos, restarts, load, bad clients and long runs, as commands: what is counted must hold in all of them."""
