"""Where scores are written unless a path is given.

The run's own data, read as in training and scored by its usual weights and the default protocol, is
`scores/<split>.parquet` of the run folder. All other names end in a hash of what was scored and how, so that no result
replaces another one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muybridge.evaluation.scores_header import ScoresHeader

_NUM_DIGITS = 8
_WEIGHTS_SUFFIXES = (".safetensors", ".onnx")


def resolve_scores_path(weights: str | Path, data: str, header: ScoresHeader, *, is_own: bool) -> Path:
    """The score file of these weights on `data`: in the run folder, else beside the weights.

    `is_own`: the run's own data, read as in training and scored by its usual weights and the default protocol.
    """
    thresholds = [header.head.thresholds] if header.head and header.head.thresholds else []
    hashes = [header.manifest_sha256, header.protocol.to_json(), header.model_sha256, header.fold, *thresholds]
    return _resolve_path(Path(weights), _make_name(header.split, data, hashes, is_own=is_own), "parquet")


def resolve_timelines_path(
    weights: str | Path, data: str, split: str, hashes: Sequence[str | int | None], *, is_own: bool
) -> Path:
    """The segments file of `muybridge evaluate --timeline`, named like a score file; `hashes` tell evaluations apart."""
    return _resolve_path(Path(weights), _make_name(split, data, hashes, is_own=is_own), "timeline.parquet")


def is_of_other_data(path: Path, data: str) -> bool:
    """Whether the name of a score file says that it is of other data than the run's, which is `data`.

    For files that do not record their data. The name has the last part of an address alone: data elsewhere of the same name
    is taken for the run's own.
    """
    match = re.search(rf"-(?P<name>.+)-[0-9a-f]{{{_NUM_DIGITS}}}$", path.stem)
    return match is not None and match["name"] != _make_data_name(data)


def _make_name(split: str, data: str, hashes: Sequence[Any], *, is_own: bool) -> str:
    """The split, and for what is not the run's own the data and a hash of what decides scores: videos, weights, protocol.

    And of where the data is: copies of one list, as with noise of several strengths, have the same names and labels.
    """
    values = [*hashes, os.path.abspath(data) if Path(data).exists() else data]  # noqa: PTH100 - without `..`
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:_NUM_DIGITS]
    return split if is_own else f"{split}-{_make_data_name(data)}-{digest}"


def _make_data_name(data: str) -> str:
    """The last part of an address in characters that every file system has: `my videos.csv` -> `my_videos`."""
    stem = data.rstrip("/").rpartition("/")[2].removesuffix(".csv")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[:60] or "data"


def _resolve_path(address: Path, name: str, extension: str) -> Path:
    """A file in the run folder, or beside weights and named after them."""
    if address.is_dir():
        return address / "scores" / f"{name}.{extension}"
    stem = address.stem if address.suffix in _WEIGHTS_SUFFIXES else address.name
    return address.with_name(f"{stem}.{name}.{extension}")
