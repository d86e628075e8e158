"""Hashes of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

_HASHED_BYTES = 1_048_576  # of `hash_ends`, at each end


def hash_file(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 (hexadecimal) of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()


def hash_ends(path: Path) -> str:
    """SHA-256 (hexadecimal) of the first and the last MiB of a file: with its size, what tells large files apart quickly."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_HASHED_BYTES))
        file.seek(max(0, path.stat().st_size - _HASHED_BYTES))
        digest.update(file.read(_HASHED_BYTES))
    return digest.hexdigest()
