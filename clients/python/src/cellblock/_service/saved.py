"""What a result says of saved variables."""

from __future__ import annotations

from typing import Any

from cellblock._checkpoints import Checkpoint

from .plain import well_formed


def checkpoint_dict(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint of JSON's types."""
    return {
        "state": checkpoint.state,
        "id": checkpoint.id,
        "reason": None if checkpoint.reason is None else well_formed(checkpoint.reason),
        "left_out": [
            {
                "path": well_formed(value.path),
                "type": well_formed(value.kind),
                "reason": well_formed(value.reason),
            }
            for value in checkpoint.left_out
        ],
        "left_out_count": checkpoint.left_out_count,
        "written_bytes": checkpoint.written_bytes,
        "pause_seconds": checkpoint.pause_seconds,
    }
