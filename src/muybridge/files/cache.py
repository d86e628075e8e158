"""The cache folder of the user."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_ENVIRONMENT_VARIABLE = "MUYBRIDGE_CACHE"


def get_cache_folder() -> Path:
    """Where copies of remote shards are kept: $MUYBRIDGE_CACHE, else muybridge/ in the user's cache folder."""
    configured = os.environ.get(CACHE_ENVIRONMENT_VARIABLE)
    return (
        Path(configured)
        if configured
        else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "muybridge"
    )
