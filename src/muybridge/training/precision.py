"""Precision of training: the choice of `training.precision auto`, and the check of bf16 against fp32 before a run."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from muybridge.distributed.process_group import ProcessGroup
from muybridge.kernels.convolution import set_execution
from muybridge.kernels.precision import (
    Precision,
    find_bf16_problem,
    get_cudnn_version,
    get_device_name,
    has_fast_bf16,
    list_cudnn_warnings,
)
from muybridge.models.network import VideoResNet
from muybridge.settings import TrainSettings
from muybridge.training_settings import TrainingSettings

# bf16 keeps 8 bits: the direction of a gradient changes by a few degrees, with a wrong kernel by far more.
_MIN_COSINE = 0.9
_TF32_PRODUCTS = "with TF32 products (training.tf32 false for IEEE ones)"


def check_precision(training: TrainingSettings, device: torch.device) -> None:
    """Raises ValueError where training.precision is bf16 and the device has no fast path for it."""
    if training.precision == "bf16" and not has_fast_bf16(device):
        what = "this processor" if device.type == "cpu" else f"{device}"
        raise ValueError(
            f"training.precision bf16 has no fast path on {what} and could be 30 times slower than fp32; "
            "leave training.precision at auto, or use a GPU or a processor with AVX-512 BF16 or AMX"
        )


def resolve_precision(
    settings: TrainSettings, network: VideoResNet, device: torch.device, process_group: ProcessGroup
) -> tuple[TrainSettings, list[str]]:
    """Replaces training.precision `auto` and an unset training.tf32 by what the run uses, with a sentence on the choice.

    Rank 0 decides for all. bf16 on a GPU runs two small steps, with copies of `network`, which must be on `device`.
    """
    training = settings.training
    if training.tf32 is None:
        settings = replace(settings, training=replace(training, tf32=True))
    if training.precision == "bf16":
        if device.type != "cuda":
            return settings, []
        return settings, list_bf16_warnings(_check_bf16(settings, network, device))
    products = f" {_TF32_PRODUCTS}" if device.type == "cuda" and settings.training.tf32 else ""
    if training.precision == "fp32":
        return settings, [f"training in fp32{products}, as training.precision says"] if products else []
    choice = _choose_precision(settings, network, device) if process_group.is_rank0 else None
    choice = process_group.broadcast_from_rank0(choice)
    assert choice is not None, "rank 0 has chosen"
    precision, reason = choice
    settings = replace(settings, training=replace(settings.training, precision=precision))
    return settings, [f"training in {precision}{products if precision == 'fp32' else ''}: {reason}"]


def _choose_precision(settings: TrainSettings, network: VideoResNet, device: torch.device) -> tuple[Precision, str]:
    """What `auto` is on this device, and why. Speed is not asked: with two clips launches decide it, not arithmetic."""
    if problem := find_bf16_problem(device):
        return "fp32", problem
    cosine = _check_bf16(settings, network, device)
    name = get_device_name(device)
    if not cosine >= _MIN_COSINE:
        return "fp32", f"on {name} the gradients of a step in bf16 and in fp32 have a cosine of only {cosine:.2f}"
    return "bf16", f"{name} has bf16 instructions, and the gradients of a step agree with fp32 (cosine {cosine:.3f})"


def list_bf16_warnings(cosine: float) -> list[str]:
    """Warnings where bf16 is wrong on this device, by `compare_bf16_to_fp32`, or its cuDNN is known for that.

    Speed is not asked, as for `auto`: a device without a fast path for bf16 is refused (`check_precision`).
    """
    messages = list_cudnn_warnings(get_cudnn_version())
    if not cosine >= _MIN_COSINE:
        messages.append(
            f"the gradients of a step in bf16 and in fp32 have a cosine of {cosine:.2f}, expected at least "
            f"{_MIN_COSINE}: this torch and its libraries compute bf16 wrongly on this device; use training.precision fp32"
        )
    return messages


def _check_bf16(settings: TrainSettings, network: VideoResNet, device: torch.device) -> float:
    """Compares the precisions on two random clips of the size of training."""
    set_execution(network, "fast" if settings.training.channels_last else "plain")
    preprocessing = settings.preprocessing
    generator = torch.Generator(device).manual_seed(settings.seed)
    size = (2, network.specification.input_channels, preprocessing.clip_length, *[preprocessing.crop] * 2)
    return compare_bf16_to_fp32(network, torch.randn(size, device=device, generator=generator))


def compare_bf16_to_fp32(network: VideoResNet, clips_ncthw: Tensor) -> float:
    """The cosine between the gradients of a step in each precision, with `clips_ncthw` of the size that training will use.

    The steps run on copies of `network`. Batch norm uses its running statistics: those of a batch of two clips amplify
    rounding (the gradients of a correct network had a cosine of 0.5), and what is to be tested are the convolutions.
    """
    gradients = []
    for enabled in (False, True):
        network_copy = copy.deepcopy(network).eval()
        network_copy.zero_grad(set_to_none=True)
        with torch.autocast(clips_ncthw.device.type, torch.bfloat16, enabled=enabled):
            logits = network_copy(clips_ncthw)
        targets = torch.arange(len(clips_ncthw), device=logits.device) % logits.shape[1]
        torch.autograd.backward(functional.cross_entropy(logits.float(), targets))
        gradients.append(
            torch.cat(
                [parameter.grad.flatten() for parameter in network_copy.parameters() if parameter.grad is not None]
            )
        )
    return functional.cosine_similarity(gradients[0].double(), gradients[1].double(), dim=0).item()
