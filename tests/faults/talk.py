"""What is said and heard of one cell, and what a store says about itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

from cellblock import Cancelled, CellblockError, Completed, Execution, Notebook, Notice, WorkerDied
from cellblock._requests import Checkpointing

from .daemon import BOUND_SECONDS


def run(
    notebook: Notebook, code: str, checkpoint: Checkpointing = "none", execution_id: str | None = None
) -> Completed | CellblockError:
    """Runs a cell to its end."""
    try:
        execution = notebook.execute(
            code, checkpoint=checkpoint, execution_id=execution_id, timeout=BOUND_SECONDS
        )
    except CellblockError as error:
        return error
    return finish(execution)


def finish(execution: Execution) -> Completed | CellblockError:
    """Waits for its end, whichever it is."""
    try:
        return execution.result()
    except CellblockError as error:
        return error


def said(ended: Completed | CellblockError) -> list[str]:
    """What was told of losses: in notices, in the end of a worker, in a refusal."""
    if isinstance(ended, CellblockError):
        return [str(ended)]
    texts = [f"{output.text} {output.names}" for output in ended.outputs if isinstance(output, Notice)]
    if isinstance(ended.outcome.end, WorkerDied | Cancelled):
        texts.append(f"{ended.outcome.end} {ended.outcome.lost}")
    return texts


def short(ended: Completed | CellblockError) -> str:
    """For people."""
    if isinstance(ended, CellblockError):
        return f"{type(ended).__name__}: {ended}"
    checkpoint = ended.outcome.checkpoint
    state = None if checkpoint is None else checkpoint.reason or checkpoint.state
    lost = "" if ended.outcome.lost is None else f", {len(ended.outcome.lost)} variables lost"
    texts = [output.text[:200] for output in ended.outputs if isinstance(output, Notice)]
    return f"{ended.outcome.end}, checkpoint {state}{lost}, {texts}"


def newest(store: Path) -> int:
    """The step after which the current checkpoint of a store was taken; 0 when there is none."""
    try:
        number = (store / "HEAD").read_text().split()[0]
        manifest = json.loads((store / "manifests" / number).read_bytes().splitlines()[0])
    except FileNotFoundError:
        return 0
    found = re.fullmatch(r"step-(\d+)", manifest["execution"])
    return int(found[1]) if found else 0
