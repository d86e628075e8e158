"""Networks applied to single files for `POST /api/predict` and batches, and what networks there are. Runs in children.

These functions import torch, which the server itself never does. A child keeps the networks that it used last.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from muybridge.prediction.recognizer import Recognizer, load
from muybridge.prediction.timeline import TimelineMode, TimelineOptions
from muybridge.prediction.timeline_tuning import apply_choice
from muybridge.studio.model_address import RUN_WEIGHTS, read_change_time
from muybridge.weights.address import resolve_weights_file
from muybridge.weights.card import Card, load_card
from muybridge.weights.catalogue import ENTRIES
from muybridge.weights.download import resolve_cached_path

_MAX_NETWORKS = 2


def predict_file(model: str, file: str, top: int, clips: int, timeline: dict[str, Any] | None) -> dict[str, Any]:
    """The prediction of a file as JSON values; a file that cannot be read is in its status.

    `timeline` holds the arguments of `make_timeline_options`; None: the classes only. Raises ValueError for the network.
    """
    recognizer = _load_recognizer(model, read_change_time(model))
    options = None if timeline is None else make_timeline_options(model, recognizer.card, **timeline)[0]
    prediction = recognizer.predict(file, clips=clips, top=top, timeline=options)
    values = prediction.to_json()
    if options is not None:
        values["segments"] = [asdict(segment) for segment in prediction.segments]
    return values


def make_timeline_options(
    model: str,
    card: Card,
    step_frames: int | None,
    minimum_probability: float | None,
    minimum_seconds: float | None,
    mode: TimelineMode = "windows",
) -> tuple[TimelineOptions, str]:
    """The given options; those that are None as chosen on the run's validation videos, else the defaults.

    Beside them a note, empty unless the choice is of other weights and is not used.
    """
    options, note = apply_choice(model, card.tensors_sha256, TimelineOptions(step_frames, mode=mode))
    if minimum_probability is not None:
        options = replace(options, minimum_probability=minimum_probability)
    if minimum_seconds is not None:
        options = replace(options, minimum_seconds=minimum_seconds)
    return options, note


def list_catalogue() -> list[dict[str, Any]]:
    """The public weights to start from that see RGB, an entry each as the page's `Weights`."""
    return [
        {
            "address": entry.name,
            "title": entry.name,
            "kind": "catalogue",
            "network": entry.network,
            "num_classes": entry.num_classes,
            "accuracy": entry.published_accuracy,
            "licence": entry.licence,
            "is_local": resolve_cached_path(entry).exists(),
        }
        for entry in ENTRIES
        if not entry.is_flow
    ]


def read_run_classes(folder: str) -> list[str]:
    """The classes of a run folder's weights; none before the first were written."""
    for name in RUN_WEIGHTS:
        path = Path(folder) / name
        if path.is_file():
            return list(load_card(path).classes)
    return []


def find_weights_file(address: str) -> Path:
    """The file of the weights that an address names."""
    return Path(address) if address.endswith(".onnx") else resolve_weights_file(address)


@lru_cache(maxsize=_MAX_NETWORKS)
def _load_recognizer(address: str, change_time: int) -> Recognizer:
    recognizer = load(address)
    recognizer.card.check_classifier()
    return recognizer
