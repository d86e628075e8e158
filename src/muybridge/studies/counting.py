"""Parameters, multiply-adds and layer sizes of the paper's networks, counted on the meta device without weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from muybridge.models.cost import cost
from muybridge.models.network import create_model
from muybridge.settings import ClipSettings, TrainSettings
from muybridge.studies.paper import TABLE1, Table1Row, Table2Row
from muybridge.training.network import initialize_network

TABLE1_LENGTH, CROP = 16, 112
TABLE2_LENGTH = 8  # R2D's parameters depend on it
TABLE1_STAGES = {"conv1": "stem", "conv2_x": "layer1", "conv3_x": "layer2", "conv4_x": "layer3", "conv5_x": "layer4"}


@dataclass(frozen=True)
class LayerGroup:
    """A group of Table 1: output size (channels, time, height, width), filter size, number of blocks, multiply-adds."""

    output: tuple[int, ...]
    kernel: tuple[int, ...]
    num_blocks: int
    multiply_adds: int

    def matches(self, printed: Table1Row, num_blocks: int) -> bool:
        """Whether it is the printed group."""
        return (self.output, self.kernel, self.num_blocks) == (get_printed_output(printed), printed.kernel, num_blocks)


def get_printed_output(printed: Table1Row) -> tuple[int, ...]:
    """The printed output size for clips of 16 frames: channels, time, height, width."""
    return printed.channels, int(TABLE1_LENGTH * printed.output_share), printed.output_size, printed.output_size


@cache
def measure_layer_groups(depth: int) -> tuple[LayerGroup, ...]:
    """The groups of R3D, in the order of `paper.TABLE1`."""
    with torch.device("meta"):
        network = create_model(f"r3d_{depth}", clip_length=TABLE1_LENGTH)
    layers = cost(network, (3, TABLE1_LENGTH, CROP, CROP)).layers
    groups = []
    for printed in TABLE1:
        stage = [layer for layer in layers if layer.name.startswith(f"{TABLE1_STAGES[printed.group]}.")]
        main = [layer for layer in stage if "downsample" not in layer.name]
        num_blocks = len({layer.name.split(".")[1] for layer in main})
        multiply_adds = sum(layer.multiply_adds for layer in stage)
        groups.append(LayerGroup(main[-1].output_cthw, main[-1].kernel, num_blocks, multiply_adds))
    return tuple(groups)


@cache
def count_million_parameters(printed: Table2Row) -> float:
    """Weights of convolutions and classifier of a network of Table 2 in millions, to one decimal as printed."""
    with torch.device("meta"):
        network = create_model(f"{printed.family}_18", clip_length=TABLE2_LENGTH)
    return round(cost(network, (3, TABLE2_LENGTH, CROP, CROP)).weights / 1e6, 1)


def count_multiply_adds(settings: TrainSettings, num_classes: int = 400) -> int:
    """Multiply-adds of convolutions and classifier for one clip."""
    return _count_multiply_adds(_reduce_to_network(settings), num_classes)


def count_parameters(settings: TrainSettings) -> int:
    """Learnable parameters with 400 classes."""
    return _count_parameters(_reduce_to_network(settings))


def _reduce_to_network(settings: TrainSettings) -> TrainSettings:
    """The settings that a network's cost depends on, so that runs that differ in others are counted once."""
    return TrainSettings(
        data="", model=settings.model, modality=settings.modality, network=settings.network, clips=settings.clips
    )


def get_paper_settings(family: str, length: int) -> TrainSettings:
    """A network of the paper's Table 2 with default training, for counting."""
    return TrainSettings(data="", model=f"{family}_18", clips=ClipSettings(length=length))


@cache
def _count_multiply_adds(settings: TrainSettings, num_classes: int) -> int:
    clip = (settings.preprocessing.input_channels, settings.clips.length, settings.clips.crop, settings.clips.crop)
    with torch.device("meta"):
        return cost(initialize_network(settings, num_classes), clip).multiply_adds


@cache
def _count_parameters(settings: TrainSettings) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in initialize_network(settings, 400).parameters())
