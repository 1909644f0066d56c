"""Reads a neighbour's files by their path on the host, and by way of his process."""

import os

from attack import GIVEN, attempt, saw


def read(path):
    with open(path) as file:
        file.read()


attempt("workspace", lambda: os.listdir(GIVEN["neighbour_folder"]) and None)
attempt("process", lambda: os.stat(f"/proc/{GIVEN['neighbour_pid']}/root") and None)
attempt("left_open", lambda: read(GIVEN["secret"]))
saw()
