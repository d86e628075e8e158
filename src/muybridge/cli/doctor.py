"""`muybridge doctor`: what works on this machine, and why the rest does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, util

from muybridge.cli.options import verb_parser

EXAMPLES = ("muybridge doctor", "muybridge doctor --json")

# What each optional part is for, and what brings it.
OPTIONAL_PARTS = (
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
    """One thing that was looked at. `needed`: whether Muybridge cannot do its main work without it."""

    what: str
    works: bool
    detail: str
    needed: bool = False


def run(words: Sequence[str]) -> int:
    """Prints the findings; exit code 1 when something needed does not work."""
    parser = verb_parser("doctor", "[--json]", "Looks at this machine.", EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print JSON")
    found = parser.parse_args(list(words))
    findings = [*_packages(), *_devices(), *_codecs(), *_optional_parts()]
    if found.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "ok     " if finding.works else "BROKEN " if finding.needed else "absent "
            print(f"{mark}{finding.what:<24}{finding.detail}")
    return 1 if any(finding.needed and not finding.works for finding in findings) else 0


def _packages() -> list[Finding]:
    names = ("torch", "av", "numpy", "pyarrow", "safetensors")
    return [Finding(name, True, metadata.version(name), needed=True) for name in names]


def _devices() -> list[Finding]:
    import torch

    from muybridge.distributed.rank import resolve_num_workers
    from muybridge.files.run_folder import get_processor_name

    findings = [
        Finding("cpu", True, f"{get_processor_name()}, {resolve_num_workers(None)} cores for workers", needed=True)
    ]
    if not torch.cuda.is_available():
        built = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}" if torch.version.cuda else ""
        reason = f"{built}, but finds no usable GPU" if built else f"torch {torch.__version__} is a CPU build"
        return [*findings, Finding("cuda", False, f"{reason}; networks run on the CPU")]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        findings.append(Finding(f"cuda:{number}", True, f"{properties.name}, {memory}, {bf16}"))
    return findings


def _codecs() -> list[Finding]:
    import av

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


def _optional_parts() -> list[Finding]:
    findings = []
    for module, purpose, remedy in OPTIONAL_PARTS:
        there = util.find_spec(module) is not None
        findings.append(Finding(module, there, purpose if there else f"{purpose}: {remedy}"))
    return findings
