"""Precision of arithmetic on a device: whether bf16 is fast and correct, TF32, and the record of what was used.

bf16 keeps 8 bits of a number; tensor cores and AVX-512 BF16 multiply it several times as fast as float32. TF32 is float32
whose factors are rounded to 11 bits, on NVIDIA GPUs since Ampere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch

from muybridge.files.run_folder import get_processor_name

Precision = Literal["fp32", "bf16"]
RequestedPrecision = Literal["auto", "fp32", "bf16"]
PRECISION_VARIABLE = "MUYBRIDGE_PRECISION"  # environment variable: what `auto` is in inference, also in child processes
# cuDNN 9.8 to 9.14 with 3-D convolutions in bf16: wrong results (pytorch/pytorch#163539), or a path around them that is
# four times slower and takes several times the memory (#166122, #166643). Fixed in 9.15.
_BAD_CUDNN_FROM, _BAD_CUDNN_BEFORE = 90800, 91500


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16 matrix products, rather than emulating them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: Mapping[str, Any] = torch.cpu.get_capabilities()
    return any(capabilities.get(name) is True for name in ("avx512_bf16", "amx_bf16", "sve_bf16"))


def get_cudnn_version() -> int | None:
    """The version of cuDNN that torch uses, 90100 for 9.1.0; None without cuDNN."""
    version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return version


def list_cudnn_warnings(version: int | None) -> list[str]:
    """A warning where this version of cuDNN (see `get_cudnn_version`) is known to be wrong or slow in bf16."""
    if version is None or not _BAD_CUDNN_FROM <= version < _BAD_CUDNN_BEFORE:
        return []
    major, minor = version // 10000, version % 10000 // 100
    return [
        f"cuDNN {major}.{minor} is known for wrong or slow 3-D convolutions in bf16; install nvidia-cudnn 9.15 or newer, "
        "or use training.precision fp32"
    ]


def find_bf16_problem(device: torch.device) -> str | None:
    """Why bf16 is not the automatic choice on this device, or None where it is.

    On a CPU, float32 runs by kernels of its own (Winograd, fused oneDNN operators) that bf16 has not been measured against.
    """
    if device.type != "cuda":
        return "on a CPU bf16 is used only on request"
    if not has_fast_bf16(device):
        return f"{get_device_name(device)} has no bf16 instructions"
    if list_cudnn_warnings(get_cudnn_version()):
        return "this version of cuDNN computes 3-D convolutions in bf16 wrongly or slowly; 9.15 is the first without the fault"
    return None


def choose_inference_precision(requested: RequestedPrecision, device: torch.device) -> Precision:
    """Resolve `auto`: what MUYBRIDGE_PRECISION says; else bf16 on a GPU that computes it in hardware, and fp32 elsewhere.

    Raises ValueError for bf16 on a device without instructions for it.
    """
    if requested == "auto":
        requested = _read_default_precision()
    if requested == "auto":
        return "bf16" if find_bf16_problem(device) is None else "fp32"
    if requested == "bf16" and not has_fast_bf16(device):
        raise ValueError(
            f"bf16 has no fast path on {get_device_name(device)} and could be 30 times slower than fp32; use precision fp32, "
            "or a GPU or a processor with AVX-512 BF16 or AMX"
        )
    return requested


def _read_default_precision() -> RequestedPrecision:
    match os.environ.get(PRECISION_VARIABLE) or "auto":
        case "auto" | "fp32" | "bf16" as precision:
            return precision
        case other:
            raise ValueError(f"the environment variable {PRECISION_VARIABLE} is {other!r}, expected auto, fp32 or bf16")


def set_tf32(enabled: bool) -> None:
    """Let CUDA round the factors of float32 products and convolutions to TF32, or not, in this process."""
    mode = "tf32" if enabled else "ieee"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode  # type: ignore[attr-defined]


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Context manager without TF32 on a GPU; what was set before is restored. No effect for a CPU."""
    if device.type != "cuda":
        yield
        return
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = products.fp32_precision, convolutions.fp32_precision
    set_tf32(False)
    try:
        yield
    finally:
        products.fp32_precision, convolutions.fp32_precision = before


def get_device_name(device: torch.device) -> str:
    """The name of the GPU or the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else get_processor_name()


def describe_execution(device: torch.device, precision: str, *, tf32: bool = False) -> dict[str, Any]:
    """What the bits of a result depend on besides weights and data, as JSON values."""
    on_gpu = device.type == "cuda"
    return {
        "precision": precision,
        "tf32": on_gpu and tf32,
        "device": get_device_name(device),
        "torch": torch.__version__,
        "cudnn": get_cudnn_version() if on_gpu else None,
    }
