"""`muybridge.push_to_hub`: the weights of a run or a file to the Hugging Face Hub (extra `hub`)."""

from __future__ import annotations

import os

from muybridge.weights.address import resolve_weights_file
from muybridge.weights.card import load_card
from muybridge.weights.hub import push_weights


def push_to_hub(
    weights: str | os.PathLike[str], repository: str, *, private: bool = False, token: str | None = None
) -> str:
    """Upload weights to `NAME/REPOSITORY`, which is created if needed; returns the address that `load` takes (`hf://...`).

    `weights` is a run, a run folder, a .safetensors file or a catalogue name. Raises ImportError without
    huggingface_hub, ValueError where the weights have no card or the name is none, OSError where the Hub cannot be reached, and
    what huggingface_hub raises where the Hub refuses.
    """
    file = resolve_weights_file(os.fspath(weights))
    return push_weights(file, load_card(file), repository, private=private, token=token)
