"""The cache folder of the user."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "MUYBRIDGE_CACHE"


def cache_folder() -> Path:
    """Where copies of remote shards are kept: $MUYBRIDGE_CACHE, else muybridge/ in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "muybridge"
