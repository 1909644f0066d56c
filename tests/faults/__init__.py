"""Faults on purpose: what is killed, full or damaged while variables are saved, and what comes back."""
