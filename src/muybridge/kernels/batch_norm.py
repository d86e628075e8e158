"""Batch norm with the residual sum and ReLU that follow it: `apply_norm`.

Input: the maps of a convolution (N, C, T, H, W). Output: relu(norm(maps) + residual). On a GPU the three run as fused Triton
kernels (`muybridge.kernels.triton_norm`), where Triton is installed and its kernels pass a check on the device; everywhere
else, and for other norms, torch's operators run one after the other.
"""

from __future__ import annotations

import functools
import importlib
import subprocess
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

FUSED_DEVICE_TYPES = {"cuda"}  # tests add "cpu" for Triton's interpreter
_FUSED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_MAX_CHECK_ERROR = 1e-3  # of fused kernels in float32 beside torch's operators, relative to the largest value


def apply_layers(layers: Sequence[nn.Module], maps: Tensor, residual: Tensor | None = None) -> Tensor:
    """What follows a convolution: batch norm, perhaps ReLU, then any other layers. With `residual`, a sum before a ReLU."""
    norm, others = layers[0], layers[1:]
    relu = residual is not None or (bool(others) and isinstance(others[0], nn.ReLU))
    if residual is None and relu:
        others = others[1:]
    maps = apply_norm(norm, maps, relu=relu, residual=residual)
    for layer in others:
        maps = layer(maps)
    return maps


def apply_norm(
    norm: nn.Module, maps: Tensor, *, relu: bool, residual: Tensor | None = None, extra_channels: int = 0
) -> Tensor:
    """relu(norm(maps) + residual); `relu` False leaves out the ReLU, `residual` None the sum. May overwrite `maps`.

    The last `extra_channels` channels of `maps` are zero and not among those of `norm`; they stay zero.
    """
    if isinstance(norm, nn.BatchNorm3d) and _is_fusible(norm, maps, residual):
        return _apply_fused(norm, maps, relu=relu, residual=residual, extra_channels=extra_channels)
    if extra_channels == 0:
        maps = norm(maps)
    else:
        assert isinstance(norm, nn.BatchNorm3d), "other norms have their own channels only"
        maps = _apply_padded(norm, maps, extra_channels)
    if residual is not None:
        maps += residual
    return functional.relu(maps, inplace=True) if relu else maps


@functools.cache
def find_fusion_problem(device: torch.device) -> str | None:
    """Why fused batch norm does not run on this device, or None where it does. The first call runs the kernels once.

    Triton compiles with a C compiler when a kernel is first called, so that being installed is not enough.
    """
    if device.type not in FUSED_DEVICE_TYPES:
        return "fused batch norm needs a CUDA device"
    try:
        kernels = importlib.import_module("muybridge.kernels.triton_norm")  # Triton: an extra on CPUs, slow to import
        error = _measure_fused_error(kernels, device)
    except ImportError as problem:
        return f"Triton cannot be imported ({problem}); install it with `pip install 'muybridge[triton]'`"
    except (RuntimeError, OSError, ValueError, TypeError, AttributeError, subprocess.CalledProcessError) as problem:
        reason = str(problem).strip().partition("\n")[0]
        return f"Triton's kernels do not run here ({type(problem).__name__}: {reason}); a C compiler is needed"
    if not error <= _MAX_CHECK_ERROR:
        return f"Triton's kernels and torch's operators differ by {error:.1e} on this device; install another version of Triton"
    return None


def _is_fusible(norm: nn.BatchNorm3d, maps: Tensor, residual: Tensor | None) -> bool:
    return (
        maps.device.type in FUSED_DEVICE_TYPES  # first: on a CPU nothing else is asked
        and type(norm) is nn.BatchNorm3d  # not one synchronized between ranks
        and not (norm._forward_hooks or norm._forward_pre_hooks)
        and norm.momentum is not None
        and norm.weight is not None
        and norm.weight.dtype == torch.float32
        and not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and not torch._C._are_functorch_transforms_active()
        and type(maps) is Tensor  # no fake tensors or other subclasses
        and maps.dtype in _FUSED_DTYPES
        and maps.numel() > 0
        and (residual is None or _is_alike(residual, maps))
        and (not _uses_batch_statistics(norm) or maps.numel() > maps.shape[1])
        and find_fusion_problem(maps.device) is None
    )


def _is_alike(residual: Tensor, maps: Tensor) -> bool:
    return (residual.shape, residual.dtype, residual.device) == (maps.shape, maps.dtype, maps.device)


def _uses_batch_statistics(norm: nn.BatchNorm3d) -> bool:
    return norm.training or norm.running_mean is None


def _apply_fused(
    norm: nn.BatchNorm3d, maps: Tensor, *, relu: bool, residual: Tensor | None, extra_channels: int
) -> Tensor:
    """The last `extra_channels` channels are those beyond the norm's; the kernels keep them zero."""
    assert maps.shape[1] == norm.num_features + extra_channels, "the channels of the norm, and the extra ones"
    kernels = importlib.import_module("muybridge.kernels.triton_norm")
    # Copies only after a convolution that leaves channels-last memory, as some 1 x 1 x 1 ones do.
    maps = maps.contiguous(memory_format=torch.channels_last_3d)
    residual = None if residual is None else residual.contiguous(memory_format=torch.channels_last_3d)
    running = None
    if norm.running_mean is not None:
        assert norm.running_var is not None, "the norm keeps both statistics"
        updates = norm.training and norm.track_running_stats
        running = kernels.RunningStatistics(norm.running_mean, norm.running_var, norm.momentum if updates else None)
        if updates and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
    out: Tensor = kernels.NormAddRelu.apply(
        maps, residual, norm.weight, norm.bias, running, norm.eps, relu, _uses_batch_statistics(norm)
    )
    return out


def _apply_padded(norm: nn.BatchNorm3d, maps: Tensor, extra_channels: int) -> Tensor:
    """Batch norm of maps with `extra_channels` channels of zeros after those of `norm`; they stay zero."""
    assert norm.momentum is not None, "running means are moving averages"
    assert norm.running_mean is not None and norm.running_var is not None, "the norm keeps statistics"
    mean = variance = None
    updates = norm.training and norm.track_running_stats
    if updates or not norm.training:
        mean, variance = (
            functional.pad(norm.running_mean, (0, extra_channels)),
            functional.pad(norm.running_var, (0, extra_channels)),
        )
    weight, bias = functional.pad(norm.weight, (0, extra_channels)), functional.pad(norm.bias, (0, extra_channels))
    maps = functional.batch_norm(maps, mean, variance, weight, bias, norm.training, norm.momentum, norm.eps)
    if updates:
        assert mean is not None and variance is not None and norm.num_batches_tracked is not None
        norm.running_mean.copy_(mean[: norm.num_features])
        norm.running_var.copy_(variance[: norm.num_features])
        norm.num_batches_tracked.add_(1)
    return maps


def _measure_fused_error(kernels: Any, device: torch.device) -> float:
    """The largest relative difference of output and gradients between fused kernels and torch's operators, in float32.

    With a sum and channels that divide no block, and without for channels that do and maps of several blocks.
    """
    errors = (
        _measure_error_of(kernels, device, (2, 12, 2, 3, 3), has_residual=True),
        _measure_error_of(kernels, device, (2, 64, 4, 5, 9), has_residual=False),
    )
    return float(torch.tensor(errors).max())  # NaN if one of them is


def _measure_error_of(kernels: Any, device: torch.device, shape: tuple[int, ...], *, has_residual: bool) -> float:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator) for _ in range(3)]
    maps, residual, gradient = (tensor.to(device).contiguous(memory_format=torch.channels_last_3d) for tensor in drawn)
    weight, bias = (torch.linspace(low, low + 1, shape[1], device=device) for low in (0.5, -0.5))
    results = []
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for fused in (True, False):
            leaves = [tensor.clone().requires_grad_() for tensor in (maps, weight, bias)]
            added = residual.clone().requires_grad_() if has_residual else None
            if fused:
                out = kernels.NormAddRelu.apply(leaves[0], added, *leaves[1:], None, 1e-3, True, True)
            else:
                normal = functional.batch_norm(leaves[0], None, None, leaves[1], leaves[2], True, 0.1, 1e-3)
                out = functional.relu(normal if added is None else normal + added)
            inputs = leaves if added is None else [*leaves, added]
            results.append([out.detach(), *torch.autograd.grad(out, inputs, gradient)])
    pairs = zip(*results, strict=True)
    return float(torch.stack([(ours - theirs).abs().max() / theirs.abs().max() for ours, theirs in pairs]).max())
