"""How a training step is executed: memory layout, checkpointing, compilation, CUDA graphs, kernels, copies to the GPU.

Nothing here changes results beyond rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch

from muybridge.kernels.batch_norm import find_fusion_problem
from muybridge.kernels.convolution import set_execution, set_num_parts
from muybridge.kernels.graphs import GRAPH_DEVICE_TYPES, GraphedNetwork
from muybridge.kernels.precision import set_tf32
from muybridge.loading.datasets import TrainingBatch
from muybridge.models.network import VideoResNet
from muybridge.settings import TrainSettings
from muybridge.training_settings import TrainingSettings

_MAX_GRAPH_DIFFERENCE = 0.05  # relative to the largest number of a tensor, where algorithms are not deterministic


def set_up_execution(network: VideoResNet, settings: TrainSettings, device: torch.device) -> list[str]:
    """Configures `network`, which must be on `device`, and on a GPU the process. Returns sentences a user should read."""
    training = settings.training
    set_execution(network, "fast" if training.channels_last else "plain")
    set_num_parts(network, training.rounding_parts)
    network.activation_checkpointing = training.activation_checkpointing
    notes = _set_up_cuda(training, device) if device.type == "cuda" else []
    if training.compile:
        network.compile()  # in place: parameter names, and so checkpoints and weights, stay the same
    return notes


def _set_up_cuda(training: TrainingSettings, device: torch.device) -> list[str]:
    set_tf32(bool(training.tf32))
    torch.backends.cudnn.deterministic = training.deterministic
    problem = find_fusion_problem(device)
    if problem and training.channels_last and not training.compile:
        return [f"batch norm and ReLU run as separate operators, which is slower: {problem}"]
    return []


def use_cuda_graphs(
    network: VideoResNet, training: TrainingSettings, report: Callable[[str], object]
) -> VideoResNet | GraphedNetwork:
    """`network`, of a run of one rank, to be called with clips: by CUDA graphs where they are safe."""
    is_plain = not (training.compile or training.activation_checkpointing or training.profile_steps)
    if training.cuda_graphs == "off" or not is_plain or network.fc.weight.device.type not in GRAPH_DEVICE_TYPES:
        return network
    # Else two eager steps differ as well: torch's gradient of a max-pool sums in any order.
    is_exact = training.deterministic and not network.specification.stem_pool
    return GraphedNetwork(network, report, max_difference=0.0 if is_exact else _MAX_GRAPH_DIFFERENCE)


def prefetch_to_device(batches: Iterable[TrainingBatch], device: torch.device) -> Iterator[TrainingBatch]:
    """The batches with their tensors on `device`; on a GPU each is copied while the step before it computes.

    Pinned tensors are copied on a stream of their own. A yielded batch is ready for use on the current stream.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    waiting: tuple[TrainingBatch, torch.cuda.Event] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            copied = move_to_device(batch, device)
        # An event and not the stream itself: waiting for the stream would wait for the copy after this one too.
        done = stream.record_event()
        if waiting is not None:
            yield _wait_for_copy(*waiting, device)
        waiting = copied, done
    if waiting is not None:
        yield _wait_for_copy(*waiting, device)


def move_to_device(batch: TrainingBatch, device: torch.device) -> TrainingBatch:
    """Copies a batch to `device`, still as YUV planes: they are smaller than RGB, which the step converts to."""
    views = batch.views.to(device) if batch.views else None
    labels_n, targets_nd = (tensor.to(device, non_blocking=True) for tensor in (batch.labels_n, batch.targets_nd))
    return replace(batch, views=views, labels_n=labels_n, targets_nd=targets_nd)


def _wait_for_copy(batch: TrainingBatch, copy_event: torch.cuda.Event, device: torch.device) -> TrainingBatch:
    """Makes the current stream wait for the copy, and keeps the batch's memory until that stream has used it."""
    current = torch.cuda.current_stream(device)
    current.wait_event(copy_event)
    if batch.views is not None:
        for tensor in (*batch.views.tensors, batch.labels_n, batch.targets_nd):
            tensor.record_stream(current)
    return batch
