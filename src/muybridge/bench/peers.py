"""Peer libraries of the benchmarks: torchvision, ONNX Runtime and OpenVINO.

Input: a network of this package, in evaluation mode. Output: the same function with the same weights in a peer library, or the
reason why it is unavailable. The libraries are optional and used for nothing else.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from muybridge.models.network import VideoResNet

NetworkFunction = Callable[[Tensor], Tensor]
_KEPT_LIBRARIES: list[torch.library.Library] = []  # a library's operators exist as long as this object


@dataclass(frozen=True)
class UnavailablePeer:
    """The reason why a peer is not measured."""

    reason: str


def create_torchvision_network(net: VideoResNet) -> nn.Module | UnavailablePeer:
    """Build torchvision's network with the weights of `net`, which must have torchvision's mid-channel rule and epsilon."""
    module = _import_torchvision()
    if isinstance(module, UnavailablePeer):
        return module
    spec = net.specification
    family, _, depth = spec.name.rpartition("_")
    convolution_names = {"r2plus1d": "Conv2Plus1D", "r3d": "Conv3DSimple", "mc3": "Conv3DSimple"}
    if family not in convolution_names or spec.block != "basic":
        return UnavailablePeer(f"torchvision has no {family}_{depth}")
    kinds = [getattr(module, convolution_names[family])] * 4
    if family == "mc3":
        kinds[1:] = [module.Conv3DNoTemporal] * 3
    stem = module.R2Plus1dStem if family == "r2plus1d" else module.BasicStem
    peer: nn.Module = module.VideoResNet(module.BasicBlock, kinds, list(spec.blocks), stem, spec.num_classes)
    peer.load_state_dict(net.state_dict())
    return peer.train(net.training)


def to_channels_last(net: nn.Module) -> nn.Module:
    """Convert the weights of `net` to channels-last memory, in place."""
    return net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]


def _import_torchvision() -> Any:
    """Import torchvision's video networks, which work without its compiled operators."""
    name = "torchvision.models.video.resnet"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        return UnavailablePeer(f"not installed ({error})")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            return UnavailablePeer(str(error))
    # The wheel was built for another torch; declaring the two operators that its import requires is enough.
    for module_name in [module_name for module_name in sys.modules if module_name.split(".")[0] == "torchvision"]:
        del sys.modules[module_name]
    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    _KEPT_LIBRARIES.append(library)
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module(name)


def _export_onnx(net: nn.Module, clips: Tensor, path: Path) -> UnavailablePeer | None:
    """Export `net` to an ONNX file for clips of this shape; returns the reason if it cannot."""
    try:
        for package in ("onnx", "onnxscript"):
            importlib.import_module(package)
    except ImportError as error:
        return UnavailablePeer(f"export needs onnx and onnxscript ({error})")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (clips,), path, dynamo=True, verbose=False)
    return None


def _load_onnx_runtime(path: Path) -> NetworkFunction | UnavailablePeer:
    """ONNX Runtime on the CPU with as many threads as torch."""
    try:
        runtime: Any = importlib.import_module("onnxruntime")
    except ImportError as error:
        return UnavailablePeer(f"not installed ({error})")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda clips: torch.from_numpy(session.run(None, {name: clips.numpy()})[0])


def _load_openvino(path: Path) -> NetworkFunction | UnavailablePeer:
    """OpenVINO on the CPU in float32 with as many threads as torch."""
    try:
        module: Any = importlib.import_module("openvino")
    except ImportError as error:
        return UnavailablePeer(f"not installed ({error})")
    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    core = module.Core()
    compiled = core.compile_model(core.read_model(str(path)), "CPU", {**threads, "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    return lambda clips: torch.from_numpy(next(iter(request.infer({0: clips.numpy()}).values())).copy())


def build_exported_peers(net: nn.Module, clips: Tensor) -> dict[str, NetworkFunction | UnavailablePeer]:
    """Build ONNX Runtime and OpenVINO networks from one exported file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        unavailable = _export_onnx(net, clips, path)
        if unavailable:
            return {"ONNX Runtime": unavailable, "OpenVINO": unavailable}
        return {"ONNX Runtime": _load_onnx_runtime(path), "OpenVINO": _load_openvino(path)}
