"""How a training step is executed: memory layout, activation checkpointing, compilation, precision, copies to the GPU.

Nothing here changes results beyond rounding, except `precision: bf16`, which is compared with fp32 on the GPU before a run.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from muybridge.kernels.convolution import set_execution
from muybridge.loading.datasets import TrainingBatch
from muybridge.models.network import VideoResNet
from muybridge.settings import TrainingSettings, TrainSettings

# bf16 keeps 8 bits: the direction of a gradient changes by a few degrees, with a wrong kernel by far more.
MIN_COSINE = 0.9
# cuDNN 9.8 to 9.14 with 3-D convolutions in bf16: wrong results (pytorch/pytorch#163539), or a path around them that is
# four times slower and takes several times the memory (#166122, #166643). Fixed in 9.15.
BAD_CUDNN_FROM, BAD_CUDNN_BEFORE = 90800, 91500


def check_precision(training: TrainingSettings, device: torch.device) -> None:
    """Raises ValueError where training.precision is bf16 and the device has no fast path for it."""
    if training.precision == "bf16" and not has_fast_bf16(device):
        what = "this processor" if device.type == "cpu" else f"{device}"
        raise ValueError(
            f"training.precision bf16 has no fast path on {what} and could be 30 times slower than fp32; "
            "leave training.precision at fp32, or use a GPU or a processor with AVX-512 BF16 or AMX"
        )


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16 matrix products, rather than emulating them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: Mapping[str, Any] = torch.cpu.get_capabilities()
    return any(capabilities.get(name) is True for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))


def set_up_execution(network: VideoResNet, settings: TrainSettings, device: torch.device) -> list[str]:
    """Configures `network`, which must be on `device`, and returns warnings. With bf16 on a GPU it runs two small steps."""
    training, preprocessing = settings.training, settings.preprocessing
    set_execution(network, "fast" if training.channels_last else "plain")
    network.activation_checkpointing = training.activation_checkpointing
    warnings = []
    if training.precision == "bf16" and device.type == "cuda":
        generator = torch.Generator(device).manual_seed(settings.seed)
        channels, crop = network.specification.input_channels, preprocessing.crop
        size = (2, channels, preprocessing.clip_length, crop, crop)
        clips = torch.randn(size, device=device, generator=generator)
        warnings = list_cudnn_warnings(get_cudnn_version()) + compare_bf16_to_fp32(network, clips).list_warnings()
    if training.compile:
        network.compile()  # in place: parameter names, and so checkpoints and weights, stay the same
    return warnings


@dataclass(frozen=True)
class PrecisionComparison:
    """A step in bf16 and the same step in fp32: cosine between their gradients, and the seconds each took."""

    cosine: float
    fp32_seconds: float
    bf16_seconds: float

    def list_warnings(self) -> list[str]:
        """Warnings where bf16 is wrong or slower than fp32."""
        messages = []
        if not self.cosine >= MIN_COSINE:
            messages.append(
                f"the gradients of a step in bf16 and in fp32 have a cosine of {self.cosine:.2f}, expected at least "
                f"{MIN_COSINE}: this torch and its libraries compute bf16 wrongly on this device; use training.precision fp32"
            )
        if self.bf16_seconds > self.fp32_seconds:
            messages.append(
                f"a step in bf16 takes {self.bf16_seconds / self.fp32_seconds:.1f} times as long as in fp32 on this device; "
                "use training.precision fp32, or other versions of torch and cuDNN"
            )
        return messages


def compare_bf16_to_fp32(network: VideoResNet, clips_ncthw: Tensor) -> PrecisionComparison:
    """Runs a step in each precision on copies of `network`, with `clips_ncthw` of the size that training will use.

    Batch norm uses its running statistics: those of a batch of two clips amplify rounding (the gradients of a correct network
    had a cosine of 0.5), and what is to be tested are the convolutions.
    """
    gradients, seconds = [], []
    for enabled in (False, True):
        network_copy = copy.deepcopy(network).eval()
        for _ in range(2):  # the first one includes set-up
            network_copy.zero_grad(set_to_none=True)
            _synchronize(clips_ncthw.device)
            start = time.perf_counter()
            with torch.autocast(clips_ncthw.device.type, torch.bfloat16, enabled=enabled):
                logits = network_copy(clips_ncthw)
            targets = torch.arange(len(clips_ncthw), device=logits.device) % logits.shape[1]
            torch.autograd.backward(functional.cross_entropy(logits.float(), targets))
            _synchronize(clips_ncthw.device)
            elapsed = time.perf_counter() - start
        gradients.append(
            torch.cat(
                [parameter.grad.flatten() for parameter in network_copy.parameters() if parameter.grad is not None]
            )
        )
        seconds.append(elapsed)
    cosine = functional.cosine_similarity(gradients[0].double(), gradients[1].double(), dim=0).item()
    return PrecisionComparison(cosine, seconds[0], seconds[1])


def get_cudnn_version() -> int | None:
    """The version of cuDNN that torch uses, 90100 for 9.1.0; None without cuDNN."""
    version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return version


def list_cudnn_warnings(version: int | None) -> list[str]:
    """A warning where this version of cuDNN (see `get_cudnn_version`) is known to be wrong or slow in bf16."""
    if version is None or not BAD_CUDNN_FROM <= version < BAD_CUDNN_BEFORE:
        return []
    major, minor = version // 10000, version % 10000 // 100
    return [
        f"cuDNN {major}.{minor} is known for wrong or slow 3-D convolutions in bf16; install nvidia-cudnn 9.15 or newer, "
        "or use training.precision fp32"
    ]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
    return replace(batch, views=views, labels_n=batch.labels_n.to(device, non_blocking=True))


def _wait_for_copy(batch: TrainingBatch, copy_event: torch.cuda.Event, device: torch.device) -> TrainingBatch:
    """Makes the current stream wait for the copy, and keeps the batch's memory until that stream has used it."""
    current = torch.cuda.current_stream(device)
    current.wait_event(copy_event)
    if batch.views is not None:
        for tensor in (*batch.views.tensors, batch.labels_n):
            tensor.record_stream(current)
    return batch
