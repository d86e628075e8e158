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


def take_over(source: VideoResNet, network: VideoResNet, class_order: Sequence[int] | None) -> None:
    """Copies the weights of `source` into `network` in place.

    `class_order` says which row of the source's classifier each class of `network` takes; None leaves the classifier of
    `network` as it was drawn. A stem for another number of channels is averaged. A body of another shape is a ValueError that
    shows both shapes.
    """
    theirs, ours = source.specification, network.specification
    if theirs.stem is ConvolutionKind.TIME_AS_CHANNELS and theirs.clip_length != ours.clip_length:
        raise ValueError(
            f"weights of {theirs.name} for clips of {theirs.clip_length} frames cannot be used with {ours.clip_length}: it "
            f"takes the frames as channels; set clips.length to {theirs.clip_length}, or start from another network"
        )
    given, own = source.state_dict(), network.state_dict()
    taken: dict[str, Tensor] = {name: tensor for name, tensor in given.items() if name not in CLASSIFIER}
    if theirs.input_channels != ours.input_channels:
        taken[STEM] = averaged_stem(taken[STEM], ours.input_channels)
    misfits = [
        f"{name} {tuple(taken[name].shape) if name in taken else 'missing'}, expected "
        f"{tuple(own[name].shape) if name in own else 'none'}"
        for name in [*taken, *own]
        if name not in CLASSIFIER and (name not in taken or name not in own or taken[name].shape != own[name].shape)
    ]
    if misfits:
        raise ValueError(f"weights of {theirs.name} do not fit {ours.name} as it is set up: {misfits[0]}")
    if class_order is not None:
        taken |= {name: given[name][list(class_order)] for name in CLASSIFIER}
    network.load_state_dict(taken, strict=False)


def averaged_stem(weight: Tensor, input_channels: int) -> Tensor:
    """Filters (out, in, t, k, k) for another number of channels: each sees the mean of the old ones.

    What two-stream networks do with RGB weights for optical flow (Wang et al., Temporal Segment Networks, ECCV 2016, 3.2).
    """
    return weight.mean(dim=1, keepdim=True).expand(-1, input_channels, -1, -1, -1).contiguous()


def freeze(network: VideoResNet, num_stages: int) -> None:
    """Takes the first `num_stages` of conv1 to conv5 out of training, in place."""
    for stage in STAGES[:num_stages]:
        network.get_submodule(stage).requires_grad_(False)


def learning_mode(network: nn.Module) -> None:
    """Training mode, but for what is frozen: there batch norm keeps to its statistics and does not change them."""
    network.train()
    for name, part in network.named_children():
        if name in STAGES and not any(parameter.requires_grad for parameter in part.parameters()):
            part.eval()
