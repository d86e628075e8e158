"""Where scores are written unless a path is given.

The run's own data, scored by the default protocol, is `scores/<split>.parquet` of the run folder. All other names end
in a hash of what was scored and how, so that no result replaces another one.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from muybridge.datasets.run_videos import is_run_data
from muybridge.evaluation.protocol import EvaluationProtocol
from muybridge.evaluation.scores_header import ScoresHeader
from muybridge.files.run_folder import read_settings

_NUM_DIGITS = 8
_WEIGHTS_SUFFIXES = (".safetensors", ".onnx")


def resolve_scores_path(
    weights: str | Path, data: str, header: ScoresHeader, default_protocol: EvaluationProtocol | None
) -> Path:
    """The score file of these weights on `data`: in the run folder, else beside the weights.

    `default_protocol` None: a hash ends the name in any case, since the weights are not those that the run is scored with.
    """
    address = Path(weights)
    digest = _hash_values([header.manifest_sha256, header.protocol.to_json(), header.model_sha256, header.fold])
    is_own = header.protocol == default_protocol and _is_data_of_run(address, data, header.fold)
    return _resolve_path(
        address, header.split if is_own else f"{header.split}-{_make_data_name(data)}-{digest}", "parquet"
    )


def resolve_timelines_path(
    weights: str | Path, data: str, split: str, fold: int | None, *, manifest_sha256: str, model_sha256: str
) -> Path:
    """The segments file of `muybridge evaluate --timeline`, named like a score file."""
    is_own = _is_data_of_run(Path(weights), data, fold)
    digest = _hash_values([manifest_sha256, model_sha256, fold])
    name = split if is_own else f"{split}-{_make_data_name(data)}-{digest}"
    return _resolve_path(Path(weights), name, "timeline.parquet")


def is_of_other_data(path: Path, data: str) -> bool:
    """Whether the name of a score file says that it is of other data than the run's, which is `data`.

    The name has the last part of an address alone: data elsewhere of the same name is taken for the run's own.
    """
    match = re.search(rf"-(?P<name>.+)-[0-9a-f]{{{_NUM_DIGITS}}}$", path.stem)
    return match is not None and match["name"] != _make_data_name(data)


def _is_data_of_run(run: Path, data: str, fold: int | None) -> bool:
    """Whether a run was trained on this address and fold. An old run without settings.yaml is taken at its word."""
    if not run.is_dir():
        return False
    path = run / "settings.yaml"
    if not path.is_file():
        return True
    saved = read_settings(path)
    return is_run_data(run, str(saved.get("data")), data) and saved.get("fold") == fold


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


def _hash_values(values: list[Any]) -> str:
    """The first digits of a hash of what decides scores: videos, weights, fold and, where there is one, the protocol."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:_NUM_DIGITS]
