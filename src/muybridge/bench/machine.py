"""What works on this machine, and why the rest does not (`muybridge doctor`)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata, util

import av
import torch

from muybridge.distributed.rank import resolve_num_workers
from muybridge.files.run_folder import get_processor_name
from muybridge.kernels.batch_norm import find_fusion_problem
from muybridge.kernels.precision import find_bf16_problem
from muybridge.text import format_count

REQUIRED_PACKAGES = ("torch", "av", "numpy", "pyarrow", "safetensors")
# Module, what it is for, how to install it.
OPTIONAL_PACKAGES = (
    ("cv2", "optical flow", "pip install 'muybridge[flow]'"),
    ("onnx", "export to ONNX", "pip install 'muybridge[onnx]'"),
    ("onnxruntime", "running ONNX files", "pip install 'muybridge[onnx]'"),
    ("ray", "preparing and predicting on a cluster", "pip install 'muybridge[ray]'"),
    ("torchcodec", "another decoder, for comparison", "pip install torchcodec"),
)
DECODERS = ("h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mjpeg")
ENCODERS = ("libx264",)


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. `needed`: the main work of Muybridge is impossible without it."""

    what: str
    works: bool
    detail: str
    needed: bool = False


def check_machine() -> list[Finding]:
    """Check packages, devices, codecs and optional packages."""
    packages = [Finding(name, True, metadata.version(name), needed=True) for name in REQUIRED_PACKAGES]
    return [*packages, *_check_devices(), *_check_codecs(), *_check_optional_packages()]


def _check_devices() -> list[Finding]:
    cpu = Finding(
        "cpu",
        True,
        f"{get_processor_name()}, {format_count(resolve_num_workers(None), 'core')} for workers",
        needed=True,
    )
    if not torch.cuda.is_available():
        version = f"torch {torch.__version__}"
        cuda = torch.version.cuda
        reason = f"{version} is built for CUDA {cuda}, but finds no usable GPU" if cuda else f"{version} is a CPU build"
        return [cpu, Finding("cuda", False, f"{reason}; networks run on the CPU")]
    findings = [cpu]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        device = torch.device("cuda", index)
        problem = find_bf16_problem(device)
        bf16 = f"fp32, since {problem}" if problem else "bf16"
        findings.append(Finding(f"cuda:{index}", True, f"{properties.name}, {memory}, {bf16}"))
        problem = find_fusion_problem(device)
        findings.append(
            Finding("fused batch norm", problem is None, problem or f"Triton's kernels run on cuda:{index}")
        )
    return findings


def _check_codecs() -> list[Finding]:
    version = f"PyAV {av.__version__}"
    return [
        Finding(
            f"{kind} {name}",
            name in av.codecs_available,
            version if name in av.codecs_available else f"this build of {version} lacks it",
            needed=name == "h264",
        )
        for kind, names in (("decoder", DECODERS), ("encoder", ENCODERS))
        for name in names
    ]


def _check_optional_packages() -> list[Finding]:
    findings = []
    for module, purpose, remedy in OPTIONAL_PACKAGES:
        installed = util.find_spec(module) is not None
        findings.append(Finding(module, installed, purpose if installed else f"{purpose}: {remedy}"))
    return findings
