"""A network trained by several ranks: gradients averaged, batch norm synchronized if asked for."""

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
    """`network` with rank 0's weights, its gradients averaged over the ranks; alone, the network as it is.

    `synchronise`: batch norm uses the statistics of all ranks' clips together. `example` is a batch of any content on
    the network's device. One backward pass on it, without effect on the network, makes DistributedDataParallel order
    its buckets of gradients for good: it does so after its first pass, sums of three and more ranks depend on the order,
    and a resumed run would otherwise differ in the last bit.
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
        # Of gradients of 1x1x1 weights, whose strides are written in two ways; torch says it once in a process.
        warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)
        for _ in range(2):  # the second pass uses the order that the first one found
            torch.autograd.backward(wrapped(example_clips).sum() * 0.0)
    for buffer, value in zip(network.buffers(), saved_buffers, strict=True):
        buffer.copy_(value)
    network.zero_grad(set_to_none=True)
    return wrapped


def no_sync_if(model: nn.Module, condition: bool) -> AbstractContextManager[None]:
    """Inside, gradients of a wrapped network gather on their rank if `buffer`; else they are averaged over the ranks."""
    return model.no_sync() if condition and isinstance(model, DistributedDataParallel) else nullcontext()
