"""Data-parallel training: DistributedDataParallel, with synchronized batch norm as an option."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from muybridge.distributed.process_group import ProcessGroup
from muybridge.training.synchronized_norm import convert_sync_batch_norm
from muybridge.weights.transfer import train_mode


def wrap_for_training(
    network: nn.Module, process_group: ProcessGroup, *, sync_batch_norm: bool, example_clips: Tensor
) -> nn.Module:
    """Wraps `network` so that its gradients are averaged over the ranks; a single rank gets the network itself.

    `sync_batch_norm`: batch norm uses the statistics of all ranks' clips together. `example_clips` are any clips on the
    network's device. A backward pass on them, without effect on the network, fixes the order of DistributedDataParallel's
    gradient buckets: it reorders them after its first pass, the sum over three or more ranks depends on that order, and a
    resumed run would otherwise differ in the last bit.
    """
    if process_group.world_size == 1:
        return network
    if sync_batch_norm:
        convert_sync_batch_norm(network)
    wrapped = DistributedDataParallel(
        network, device_ids=[example_clips.device] if example_clips.device.type == "cuda" else None
    )
    saved_buffers = [buffer.clone() for buffer in network.buffers()]
    train_mode(network)
    with warnings.catch_warnings():
        # Gradients of 1x1x1 weights have ambiguous strides; torch warns of it once per process.
        warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)
        for _ in range(2):  # the second pass uses the order found by the first
            torch.autograd.backward(wrapped(example_clips).sum() * 0.0)
    for buffer, value in zip(network.buffers(), saved_buffers, strict=True):
        buffer.copy_(value)
    network.zero_grad(set_to_none=True)
    return wrapped


def no_sync_if(model: object, condition: bool) -> AbstractContextManager[None]:
    """`model.no_sync()` if `condition` and the model is wrapped, so that gradients accumulate on their rank; else nothing."""
    return model.no_sync() if condition and isinstance(model, DistributedDataParallel) else nullcontext()
