"""Fitting weights to another task: what `train --init WEIGHTS` does to a network, tensor by tensor.

A new classifier for other classes; a stem for optical flow from one for RGB, by averaging over the colours; another length of
clips, which pooling makes free (Table 3 of the paper) for all but R2D; stages that stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from muybridge.models.family import ConvolutionKind
from muybridge.models.network import VideoResNet

CLASSIFIER = ("fc.weight", "fc.bias")
STEM = "stem.0.weight"
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")  # conv1 to conv5
PARTS = (*STAGES, "fc")


def load_pretrained(source: VideoResNet, network: VideoResNet, class_order: Sequence[int] | None) -> None:
    """Copies the weights of `source` into `network` in place.

    `class_order` says which row of the source's classifier each class of `network` takes; None leaves the classifier of
    `network` as it was drawn. A stem for another number of channels is averaged. A body of another shape is a ValueError that
    shows both shapes.
    """
    source_spec, target_spec = source.specification, network.specification
    if source_spec.stem is ConvolutionKind.TIME_AS_CHANNELS and source_spec.clip_length != target_spec.clip_length:
        raise ValueError(
            f"weights of {source_spec.name} for clips of {source_spec.clip_length} frames cannot be used "
            f"with {target_spec.clip_length}: it "
            f"takes the frames as channels; set clips.length to {source_spec.clip_length}, or start from another network"
        )
    source_state, target_state = source.state_dict(), network.state_dict()
    new_state: dict[str, Tensor] = {name: tensor for name, tensor in source_state.items() if name not in CLASSIFIER}
    if source_spec.input_channels != target_spec.input_channels:
        new_state[STEM] = average_stem(new_state[STEM], target_spec.input_channels)
    misfits = [
        f"{name} {tuple(new_state[name].shape) if name in new_state else 'missing'}, expected "
        f"{tuple(target_state[name].shape) if name in target_state else 'none'}"
        for name in [*new_state, *target_state]
        if name not in CLASSIFIER
        and (name not in new_state or name not in target_state or new_state[name].shape != target_state[name].shape)
    ]
    if misfits:
        raise ValueError(f"weights of {source_spec.name} do not fit {target_spec.name} as it is set up: {misfits[0]}")
    if class_order is not None:
        new_state |= {name: source_state[name][list(class_order)] for name in CLASSIFIER}
    network.load_state_dict(new_state, strict=False)


def average_stem(weight: Tensor, input_channels: int) -> Tensor:
    """Filters (out, in, t, k, k) for another number of channels: each sees the mean of the old ones.

    What two-stream networks do with RGB weights for optical flow (Wang et al., Temporal Segment Networks, ECCV 2016, 3.2).
    """
    return weight.mean(dim=1, keepdim=True).expand(-1, input_channels, -1, -1, -1).contiguous()


def freeze(network: VideoResNet, num_stages: int) -> None:
    """Takes the first `num_stages` of conv1 to conv5 out of training, in place."""
    for stage in STAGES[:num_stages]:
        network.get_submodule(stage).requires_grad_(False)


def train_mode(network: nn.Module) -> None:
    """Training mode, but for what is frozen: there batch norm keeps to its statistics and does not change them."""
    network.train()
    for name, part in network.named_children():
        if name in STAGES and not any(parameter.requires_grad for parameter in part.parameters()):
            part.eval()
