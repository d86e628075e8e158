"""Synchronized batch norm: statistics over the clips of all ranks together.

On CUDA it is torch's SyncBatchNorm, which does not support the CPU. There it is `SynchronizedBatchNorm`, which all-gathers
statistics in the forward pass and all-reduces gradient sums in the backward pass. A rank without clips contributes a count
of zero.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def convert_sync_batch_norm(network: nn.Module) -> None:
    """Replaces every batch norm of `network` by a synchronized one with the same parameters, buffers and names."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.BatchNorm3d:
                setattr(module, name, _convert_norm(child))


def _convert_norm(norm: nn.BatchNorm3d) -> nn.Module:
    if norm.weight.device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
        return converted
    cpu_norm = SynchronizedBatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    cpu_norm.weight, cpu_norm.bias = norm.weight, norm.bias
    cpu_norm.running_mean, cpu_norm.running_var = norm.running_mean, norm.running_var
    cpu_norm.num_batches_tracked = norm.num_batches_tracked
    cpu_norm.training = norm.training
    return cpu_norm


class SynchronizedBatchNorm(nn.BatchNorm3d):
    """A `BatchNorm3d` that normalizes by the statistics of all ranks in training mode."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, T, H, W) -> the same shape. N may differ between ranks and may be 0."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        normalized = _SynchronizedNormalize.apply(input, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        out, mean, variance, num_values = normalized
        if num_values > 1:
            momentum = self.momentum if self.momentum is not None else 0.1
            unbiased = variance * (num_values / (num_values - 1))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
            self.num_batches_tracked.add_(1)
        result: Tensor = out
        return result


class _SynchronizedNormalize(torch.autograd.Function):
    """Normalization by the statistics of all ranks, in float64 so that they hardly depend on how clips are distributed."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, scale: Tensor, shift: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        reduced_dims = (0, *range(2, maps.dim()))
        own = maps.double()
        count = maps.numel() // maps.shape[1]
        own_mean = own.sum(reduced_dims) / max(count, 1)
        own_spread = (own - _expand_channels(own_mean, maps)).square().sum(reduced_dims)
        row = torch.cat([own_mean.new_tensor([count]), own_mean, own_spread])
        rows = [torch.empty_like(row) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, row)
        counts, means, spreads = torch.stack(rows).tensor_split([1, 1 + maps.shape[1]], dim=1)
        num_values = float(counts.sum())
        mean = (counts * means).sum(0) / max(num_values, 1.0)
        variance = (spreads + counts * (means - mean).square()).sum(0) / max(num_values, 1.0)
        inverse = (variance + epsilon).rsqrt()
        normal = ((own - _expand_channels(mean, maps)) * _expand_channels(inverse, maps)).to(maps.dtype)
        ctx.save_for_backward(normal, scale, inverse)
        ctx.num_values = num_values
        ctx.mark_non_differentiable(mean, variance)
        return normal * _expand_channels(scale, maps) + _expand_channels(shift, maps), mean, variance, num_values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients also flow through the statistics, which every rank's values contribute to."""
        normal, scale, inverse = ctx.saved_tensors
        out = gradients[0].double()
        reduced_dims = (0, *range(2, out.dim()))
        own_shift, own_scale = out.sum(reduced_dims), (out * normal).sum(reduced_dims)
        sums = torch.stack([own_shift, own_scale])
        dist.all_reduce(sums)
        mean_shift, mean_scale = sums / max(ctx.num_values, 1.0)
        inner = out - _expand_channels(mean_shift, out) - normal * _expand_channels(mean_scale, out)
        maps = inner * _expand_channels(scale.double() * inverse, out)
        return maps.to(normal.dtype), own_scale.to(scale.dtype), own_shift.to(scale.dtype), None


def _expand_channels(values_c: Tensor, maps: Tensor) -> Tensor:
    """Reshapes (C,) to broadcast over (N, C, T, H, W)."""
    return values_c.view(1, -1, *[1] * (maps.dim() - 2))
