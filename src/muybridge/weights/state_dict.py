"""Read the network of a checkpoint safely.

Input: a file of tensors under names of `naming.SCHEMES`, written by torch.save or as safetensors, in any wrapper. Output: the
tensors of the one complete network in it, and what of the file was left. No code in the file is run (design decision 12).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from muybridge.weights.card import METADATA_KEY
from muybridge.weights.inert_pickle import InertObject
from muybridge.weights.naming import TORCHVISION, NamingScheme
from muybridge.weights.network_search import FoundNetwork, describe_left_out, find_networks
from muybridge.weights.safetensors_file import read_metadata, read_safetensors
from muybridge.weights.task_heads import TrainedTask, recognize_training
from muybridge.weights.tensor_checks import COUNTER, VARIANCE, check_usable, format_problems
from muybridge.weights.torch_file import TensorStandIn, flatten_tensors, read_torch_file

_Source = Tensor | TensorStandIn | InertObject


@dataclass(frozen=True)
class CheckpointNetwork:
    """The network of a file: its tensors under our names, floats as float32, and what was left out, a clause each.

    `scheme` says whose names the file has, `training` what its other entries say about the task, if anything.

    Without a classifier in the file, `fc` is one output of zeros and `has_classifier` is false.
    """

    tensors: dict[str, Tensor]
    has_classifier: bool
    left_out: tuple[str, ...] = ()
    scheme: NamingScheme = TORCHVISION
    training: TrainedTask | None = None


def read_network(file: Path, *, place: str | None = None, head: str | None = None) -> CheckpointNetwork:
    """Read the one complete network of a file. ValueError if there is none, or several that differ.

    `place` chooses among several, as `ema.module` or "the top level"; `head` the classifier, as `fc_verb`, or "none".
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}; give a state dict (.pt, .pth) or a .safetensors file")
    sources, inert_globals, training = _read_sources(file)
    shapes = {path: source.shape for path, source in sources.items() if not isinstance(source, InertObject)}
    shapes |= {path: () for path in sources if path not in shapes}
    try:
        networks = find_networks(shapes, head, place)
    except ValueError as error:
        raise ValueError(_explain_failure(file, str(error), inert_globals)) from error
    network, tensors = _read_one(file, networks, sources)
    left_out = describe_left_out(list(shapes), set(network.paths.values()))
    if inert_globals:
        left_out.append(f"objects of {', '.join(inert_globals[:5])}, which were not run")
    return CheckpointNetwork(tensors, network.head is not None, tuple(left_out), network.scheme, training)


def add_batch_counters(tensors: dict[str, Tensor]) -> None:
    """Add `num_batches_tracked` of batch norm, 0, where a file has none, in place."""
    for name in [name for name in tensors if name.endswith(VARIANCE)]:
        tensors.setdefault(f"{name.removesuffix(VARIANCE)}{COUNTER}", torch.tensor(0))


def _read_sources(file: Path) -> tuple[dict[str, _Source], Sequence[str], TrainedTask | None]:
    """The tensors of a file by path, the classes and functions in it that were not run, and the task it was trained for."""
    with file.open("rb") as opened:
        head = opened.read(9)
    if head[8:9] == b"{":  # safetensors: eight bytes of length, then a header in JSON
        if METADATA_KEY in read_metadata(file):
            raise ValueError(f"{file} already has a card; use it without importing")
        return dict(read_safetensors(file)), (), None
    if not head.startswith((b"PK\x03\x04", b"\x80")):  # a zip, or a pickle of protocol 2 and above
        raise ValueError(
            f"{file} is neither a state dict written by torch.save, nor a safetensors file, nor a Caffe2 pickle"
        )
    content = read_torch_file(file)
    sources: dict[str, _Source] = dict(flatten_tensors(content.content))
    if not sources:
        kind = "dict" if isinstance(content.content, dict) else type(content.content).__name__
        raise ValueError(f"{file} holds a {kind} without tensors, expected a state dict: tensors by name")
    return sources, content.inert_globals, recognize_training(content.content)


def _explain_failure(file: Path, reason: str, inert_globals: Sequence[str]) -> str:
    unknown = [name for name in inert_globals if not name.startswith(("numpy.", "torch.", "argparse.", "collections."))]
    if unknown:
        more = ", ".join(unknown[:3])
        return f"{file} holds more than tensors ({more}), which was not run, and the rest cannot be imported: {reason}"
    return f"{file} cannot be imported: {reason}"


def _read_one(
    file: Path, networks: Sequence[FoundNetwork], sources: dict[str, _Source]
) -> tuple[FoundNetwork, dict[str, Tensor]]:
    """The only network of a file, and its tensors; copies of one network count as one."""
    first, *others = networks
    tensors = _read_tensors(file, first, sources)
    for other in others:
        if not _are_equal(tensors, _read_tensors(file, other, sources)):
            first_places = " and ".join(network.place for network in networks[:4])
            raise ValueError(
                f"{file} holds {len(networks)} different networks, under {first_places}; choose one, as --network "
                f"{shlex.quote(first.place)}"
            )
    return first, tensors


def _read_tensors(file: Path, network: FoundNetwork, sources: dict[str, _Source]) -> dict[str, Tensor]:
    """The tensors of a network, checked. ValueError if they are larger together than the file, as shared ones are."""
    chosen = {name: sources[path] for name, path in network.paths.items()}
    problems = [
        f"{name} is stored as {source.global_name}, expected a dense tensor of real numbers"
        for name, source in chosen.items()
        if isinstance(source, InertObject)
    ]
    if problems:
        raise ValueError(f"{file} holds tensors that cannot be weights: {format_problems(problems)}")
    num_bytes = sum(source.num_bytes for source in chosen.values() if isinstance(source, TensorStandIn))
    if num_bytes > file.stat().st_size:
        raise ValueError(
            f"{file} has fewer bytes than its tensors, {num_bytes}, since they share them; save clones of them"
        )
    tensors = {
        name: source.read(file) if isinstance(source, TensorStandIn) else source
        for name, source in chosen.items()
        if not isinstance(source, InertObject)
    }
    check_usable(file, tensors)
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    if network.scheme.extra_epsilon:
        _add_to_variances(tensors, *network.scheme.extra_epsilon)
    if network.head is None:
        tensors["fc.weight"] = torch.zeros(1, network.num_features)
    tensors.setdefault("fc.bias", torch.zeros(len(tensors["fc.weight"])))
    add_batch_counters(tensors)
    return tensors


def _add_to_variances(tensors: dict[str, Tensor], norms: str, epsilon: float) -> None:
    """Add to the variances of the norms with these names, in place, so that outputs agree at the epsilon of the others."""
    for name, tensor in tensors.items():
        if name.endswith(VARIANCE) and re.fullmatch(norms, name.removesuffix(f".{VARIANCE}")):
            tensors[name] = (tensor.double() + epsilon).float()


def _are_equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        torch.equal(tensor, others[name]) for name, tensor in some.items() if not name.endswith(COUNTER)
    )
