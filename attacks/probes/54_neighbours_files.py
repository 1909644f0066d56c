"""Reads a neighbour's files by their path on the host, and by way of his process."""

import os

from attack import GIVEN, attempt, saw


def read(path):
    with open(path) as file:
        file.read()


def enter(folder):
    """His files are there, or in the image beside it."""
    try:
        os.listdir(folder)
    except FileNotFoundError:
        os.stat(folder + ".img")


attempt("workspace", lambda: enter(GIVEN["neighbour_folder"]))
attempt("process", lambda: os.stat(f"/proc/{GIVEN['neighbour_pid']}/root") and None)
attempt("left_open", lambda: read(GIVEN["secret"]))
saw()
