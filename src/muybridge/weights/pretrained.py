"""Networks by name, with random or with pretrained weights: what `muybridge.create_model` calls."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from muybridge.models import network
from muybridge.models.family import SpecificationOptions, build_specification, change_specification
from muybridge.models.network import VideoResNet
from muybridge.weights.address import load_weights
from muybridge.weights.transfer import load_pretrained


def create_model(
    name: str, *, weights: str | Path | None = None, **options: Unpack[SpecificationOptions]
) -> VideoResNet:
    """A network of the family by its name in `list_models()`, with random weights or those of `weights`.

    `weights` is a run folder, a .safetensors file, a catalogue name or an address on the Hub. Options that are left
    out are then those of the weights; with another `num_classes` the classifier is new, and with other `input_channels` the
    stem is averaged. ValueError for an unknown name and for weights of another network.

    Options are num_classes, clip_length, input_channels, width, mid_channel_rule, norm_epsilon, stem_pool, stem_mid_channels
    and middle_relu; `Specification` describes them and has their defaults. `clip_length` (frames) is a shape for R2D only,
    other networks take clips of any length. `mid_channel_rule` "per_block" with `norm_epsilon` 1e-5 is torchvision's R(2+1)D.
    """
    if weights is None:
        return network.create_model(name, **options)
    build_specification(name)  # raises for an unknown name before anything is downloaded
    source, card = load_weights(weights)
    specification = card.specification
    if specification.name != name:
        raise ValueError(f"the weights {weights} are of {specification.name}, not of {name}; name that network")
    target = VideoResNet(change_specification(specification, **options))
    is_same_head = target.specification.num_classes == specification.num_classes
    load_pretrained(source, target, range(specification.num_classes) if is_same_head else None)
    return target.eval()
