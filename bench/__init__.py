"""Measurements of cellblock against what people use today; see README.md."""
