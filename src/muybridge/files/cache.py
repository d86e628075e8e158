"""The cache folder of the user: downloaded weights and copies of remote shards."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def get_cache_folder() -> Path:
    """`$MUYBRIDGE_CACHE`, else the platform's cache folder for muybridge (Linux: `$XDG_CACHE_HOME` or `~/.cache`)."""
    configured = os.environ.get("MUYBRIDGE_CACHE")
    return Path(configured) if configured else user_cache_path("muybridge", appauthor=False)
