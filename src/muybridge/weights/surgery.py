"""Fitting weights to another task, tensor by tensor: what `train --init WEIGHTS` does to a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from muybridge.models.network import VideoResNet

CLASSIFIER = ("fc.weight", "fc.bias")


def take_over(source: VideoResNet, network: VideoResNet, class_order: Sequence[int] | None) -> None:
    """Copies the weights of `source` into `network` in place; a network for flow takes the stem of one for RGB averaged.

    `class_order` says which row of the source's classifier each class of `network` takes; None leaves the classifier of
    `network` as it was drawn. A body of another shape is a ValueError that shows both shapes.
    """
    given, own = source.state_dict(), network.state_dict()
    channels = source.specification.input_channels, network.specification.input_channels
    if channels == (3, 2):
        given = flow_stem(given)
    taken: dict[str, Tensor] = {name: tensor for name, tensor in given.items() if name not in CLASSIFIER}
    misfits = [
        f"{name} {tuple(taken[name].shape) if name in taken else 'missing'}, expected "
        f"{tuple(own[name].shape) if name in own else 'none'}"
        for name in [*taken, *own]
        if name not in CLASSIFIER and (name not in taken or name not in own or taken[name].shape != own[name].shape)
    ]
    if misfits:
        raise ValueError(
            f"weights of {source.specification.name} do not fit {network.specification.name} as it is set up: {misfits[0]}"
        )
    if class_order is not None:
        taken |= {name: given[name][list(class_order)] for name in CLASSIFIER}
    network.load_state_dict(taken, strict=False)


def flow_stem(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights for RGB as weights for flow: each of the two channels gets the mean of the stem's filters over R, G and B.

    What a filter sees in space and time stays; which colour it liked is lost (Wang et al., ECCV 2016, section 3.2).
    """
    mean = tensors["stem.0.weight"].mean(dim=1, keepdim=True)
    return {**tensors, "stem.0.weight": mean.repeat(1, 2, 1, 1, 1)}
