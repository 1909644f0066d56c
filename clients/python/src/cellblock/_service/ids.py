"""The caller's ids and cellblock's: any text is an id here, while cellblock's become file names.

The mapping is injective: an id that cellblock takes is taken as it is, any other becomes its hash, and
so does one that looks like such a hash.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

DEFAULT_NOTEBOOK: Final = "default"
"""Where code runs whose notebook was not named."""

_LEGAL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASHED: Final = "sha256-"
_HASH_CHARACTERS: Final = 64 - len(_HASHED)


def safe_id(text: str) -> str:
    """An id of cellblock's that stands for this text and for no other."""
    if _LEGAL.fullmatch(text) and not text.startswith(_HASHED):
        return text
    # Half of a surrogate pair is no UTF-8, and still some caller's id.
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return _HASHED + digest[:_HASH_CHARACTERS]


def seed_of(notebook_id: str) -> int:
    """What a notebook's random numbers begin with unless another seed is set."""
    digest = hashlib.md5(notebook_id.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) % 2**31
