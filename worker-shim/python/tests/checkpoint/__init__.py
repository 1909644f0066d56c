"""Tests of saving and loading variables, each with a fresh process for the load."""
