"""The release; the same for every part of cellblock."""

from typing import Final

__version__: Final = "0.1.0"
