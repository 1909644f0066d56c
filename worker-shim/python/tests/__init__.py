"""Tests of the worker against the real process; `harness.py` plays the shim."""
