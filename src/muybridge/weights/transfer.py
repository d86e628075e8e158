"""Start a network from the weights of another: `train --init WEIGHTS`.

The classifier is new where classes differ. A stem for optical flow is the stem for RGB averaged over the colours. Weights fit
clips of any length, since the network pools over time (Table 3 of the paper), except those of R2D. Stages can be frozen.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from muybridge.models.family import ConvolutionKind
from muybridge.models.network import VideoResNet

CLASSIFIER = ("fc.weight", "fc.bias")
STEM = "stem.0.weight"


def load_pretrained(source: VideoResNet, network: VideoResNet, class_order: Sequence[int] | None) -> None:
    """Copy the weights of `source` into `network`, in place.

    `class_order` has the row of the source's classifier for each class of `network`; None keeps the classifier of `network`. A
    stem for another number of channels is averaged. ValueError, with both shapes, if any other tensor does not fit.
    """
    source_spec, target_spec = source.specification, network.specification
    if source_spec.stem is ConvolutionKind.TIME_AS_CHANNELS and source_spec.clip_length != target_spec.clip_length:
        raise ValueError(
            f"weights of {source_spec.name} for clips of {source_spec.clip_length} frames cannot be used "
            f"with {target_spec.clip_length}: it takes the frames as channels; "
            f"set clips.length to {source_spec.clip_length}, or start from another network"
        )
    source_state, target_state = source.state_dict(), network.state_dict()
    new_state: dict[str, Tensor] = {name: tensor for name, tensor in source_state.items() if name not in CLASSIFIER}
    if source_spec.input_channels != target_spec.input_channels:
        new_state[STEM] = average_stem(new_state[STEM], target_spec.input_channels)
    mismatches = [
        f"{name} {tuple(new_state[name].shape) if name in new_state else 'missing'}, expected "
        f"{tuple(target_state[name].shape) if name in target_state else 'none'}"
        for name in [*new_state, *target_state]
        if name not in CLASSIFIER
        and (name not in new_state or name not in target_state or new_state[name].shape != target_state[name].shape)
    ]
    if mismatches:
        raise ValueError(
            f"weights of {source_spec.name} do not fit {target_spec.name} as it is configured: {mismatches[0]}"
        )
    if class_order is not None:
        new_state |= {name: source_state[name][list(class_order)] for name in CLASSIFIER}
    network.load_state_dict(new_state, strict=False)


def average_stem(weight: Tensor, input_channels: int) -> Tensor:
    """Filters (out, in, t, k, k) for another number of input channels: the mean over the old ones, repeated.

    As two-stream networks use RGB weights for optical flow (Wang et al., Temporal Segment Networks, ECCV 2016, 3.2).
    """
    return weight.mean(dim=1, keepdim=True).expand(-1, input_channels, -1, -1, -1).contiguous()


def freeze(network: VideoResNet, num_stages: int) -> None:
    """Freeze the first `num_stages` of conv1 to conv5, in place."""
    for stage in network.stages[:num_stages]:
        stage.requires_grad_(False)


def train_mode(network: nn.Module) -> None:
    """Set training mode, but evaluation mode for frozen stages: their batch norm keeps its statistics."""
    network.train()
    for stage in network.children():
        if not any(parameter.requires_grad for parameter in stage.parameters()):
            stage.eval()
