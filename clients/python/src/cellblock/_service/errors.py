"""What an ExecutionService raises besides what any client does."""

from __future__ import annotations

from cellblock._exceptions import CellblockError


class UnknownVariable(CellblockError, KeyError):
    """No variable of that name in the notebook's namespace; also a `KeyError`."""

    # A KeyError shows its argument's repr, which is no sentence.
    __str__ = Exception.__str__
