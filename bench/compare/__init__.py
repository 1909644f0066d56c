"""The same notebooks on ipykernel and on cellblock, cell by cell: `python -m bench.compare --help`."""
