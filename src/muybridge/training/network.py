"""The network a run starts from: random weights, or pretrained ones with a new classifier where the classes differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from muybridge.datasets.classes import match_classes, normalize_class_name
from muybridge.distributed.process_group import ProcessGroup
from muybridge.models.family import Specification, build_specification, change_specification
from muybridge.models.heads import Head
from muybridge.models.network import VideoResNet
from muybridge.settings import TrainSettings
from muybridge.text import format_count, join_names
from muybridge.weights.address import RUN_FILES, download_once_per_node, load_weights
from muybridge.weights.card import Card, load_card
from muybridge.weights.transfer import freeze, load_pretrained

UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True)
class InitialNetwork:
    """The network of a run, sentences on its weights, and their licence, which is that of the weights they start from."""

    network: VideoResNet
    notes: tuple[str, ...] = ()
    licence: str = UNKNOWN_LICENCE


def create_initial_network(
    settings: TrainSettings,
    classes: Sequence[str],
    head: Head | None,
    resumed_specification: Specification | None,
    process_group: ProcessGroup,
) -> InitialNetwork:
    """The network of a run on data of these classes; `head` is that of another task than single_label.

    A resumed run reads its weights from a checkpoint later, so settings.init is not read again.
    """
    num_outputs = len(head.outputs if head else classes)
    if settings.init is None:
        initial = InitialNetwork(initialize_network(settings, num_outputs))
    elif resumed_specification is None:
        download_once_per_node(settings.init, process_group)
        initial = _load_pretrained_network(settings, settings.init, classes, head)
    else:
        network = initialize_network(settings, num_outputs, resumed_specification)
        freeze(network, settings.training.frozen_stages)
        initial = InitialNetwork(network, licence=_read_licence(Path(settings.output)))
    if settings.training.rounding_seed:
        perturb_rounding(initial.network, settings.training.rounding_seed)
    return initial


def _read_licence(folder: Path) -> str:
    """The licence of the weights of a run, by the card of the newest that has one."""
    for name in reversed(RUN_FILES):
        try:
            return load_card(folder / name).licence
        except ValueError:  # not there, or damaged
            continue
    return UNKNOWN_LICENCE


def perturb_rounding(network: nn.Module, seed: int) -> None:
    """Moves every weight of more than one dimension up or down by one unit in the last place, or leaves it, at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                directions = torch.randint(-1, 2, parameter.shape, generator=generator).to(parameter)
                towards = torch.where(directions == 0, parameter, directions * torch.inf)
                parameter.copy_(torch.nextafter(parameter, towards))


def initialize_network(
    settings: TrainSettings, num_classes: int, source_specification: Specification | None = None
) -> VideoResNet:
    """The network of the settings, with random weights drawn from their seed. The global random state is unchanged.

    `source_specification` is that of the pretrained weights: it decides what the settings leave open.
    """
    network_settings = settings.network
    base = source_specification or build_specification(settings.model)
    specification = change_specification(
        base,
        num_classes=num_classes,
        clip_length=settings.clips.length,
        input_channels=network_settings.input_channels or settings.preprocessing.input_channels,
        width=network_settings.width,
        mid_channel_rule=network_settings.mid_channel_rule or base.mid_channel_rule,
        norm_epsilon=base.norm_epsilon if network_settings.norm_epsilon is None else network_settings.norm_epsilon,
        stem_pool=base.stem_pool if network_settings.stem_pool is None else network_settings.stem_pool,
        stem_mid_channels=network_settings.stem_mid_channels,
        middle_relu=base.middle_relu if network_settings.middle_relu is None else network_settings.middle_relu,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return VideoResNet(specification)


def _load_pretrained_network(
    settings: TrainSettings, address: str, classes: Sequence[str], head: Head | None
) -> InitialNetwork:
    """The network of the settings with the weights at `address`, and a sentence on what was loaded."""
    pretrained, card = load_weights(address)
    source = card.specification
    if source.name != settings.model:
        raise ValueError(
            f"the weights at {address} are of {source.name}, not of {settings.model}; add --model {source.name}"
        )
    network = initialize_network(settings, len(head.outputs if head else classes), source)
    class_order = _match_outputs(classes, head, card)
    load_pretrained(pretrained, network, class_order)
    if class_order is not None and head and card.head and head.task == "regression":
        _rescale_outputs(network, card.head, head, class_order)
    freeze(network, settings.training.frozen_stages)
    details = [_describe_outputs(classes, head, card, is_new=class_order is None)]
    target = network.specification
    if target.input_channels != source.input_channels:
        details.append(f"a stem averaged over {source.input_channels} channels for {target.input_channels}")
    if settings.training.frozen_stages:
        details.append(f"conv1 to conv{settings.training.frozen_stages} frozen with their batch norm")
    if target.norm_epsilon != source.norm_epsilon:
        details.append(
            f"a batch-norm epsilon of {target.norm_epsilon:g} where they were trained with {source.norm_epsilon:g}"
        )
    note = f"starting from {address} ({card.source}) with {', '.join(details)}"
    return InitialNetwork(network, (note,), card.licence)


def _describe_outputs(classes: Sequence[str], head: Head | None, card: Card, *, is_new: bool) -> str:
    """What became of the last layer, as the end of a sentence."""
    if head is None:
        return f"a new classifier of {format_count(len(classes), 'class')}" if is_new else "their classifier"
    is_ordinal = head.task == "ordinal"
    if is_new:
        names = classes if is_ordinal else head.outputs
        theirs = f" ({join_names(names)}; theirs is for {join_names(card.classes)})" if card.head else ""
        return f"a new head of {format_count(len(head.outputs), 'output')} for {head.task}{theirs}"
    scaled = ", scaled to the mean and deviation of these targets" if head.task == "regression" else ""
    names = card.classes if is_ordinal else head.outputs
    return f"their head for {head.task} ({join_names(names)}){scaled}"


def _rescale_outputs(network: VideoResNet, source: Head, target: Head, order: Sequence[int]) -> None:
    """Changes the last layer, in place, so that the values in the unit of the target stay the same."""
    mean, std = (torch.tensor(values or ())[list(order)] for values in (source.target_mean, source.target_std))
    new_mean, new_std = (torch.tensor(values or ()) for values in (target.target_mean, target.target_std))
    with torch.no_grad():
        network.fc.weight.mul_((std / new_std)[:, None])
        network.fc.bias.mul_(std / new_std).add_((mean - new_mean) / new_std)


def _match_outputs(classes: Sequence[str], head: Head | None, card: Card) -> list[int] | None:
    """The row of the card's classifier for each output; None where it is new: for other classes, targets or another task.

    Targets in other units are other targets. Of an ordinal target all levels are compared: no output is called after the
    highest.
    """
    task = head.task if head else "single_label"
    if task != card.task:
        return None
    if task == "ordinal":  # its boundaries have an order
        is_same = [*map(normalize_class_name, classes)] == [*map(normalize_class_name, card.classes)]
        return list(range(len(classes) - 1)) if is_same else None
    names, source_names = (head.outputs, card.head.outputs) if head and card.head else (classes, card.classes)
    try:
        order = match_classes(names, source_names)
    except ValueError:
        return None
    if head and card.head:
        units = [(head.get_unit(index), card.head.get_unit(source)) for index, source in enumerate(order)]
        return order if all(one == other for one, other in units if one and other) else None
    return order
