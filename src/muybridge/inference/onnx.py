"""Networks as ONNX files, and ONNX files as scorers.

Enters: a `VideoResNet` with its card. Leaves: one file with the input `clips` (N, C, T, H, W), normalised, N free, and output
`logits` (N, classes); the card is its metadata entry `muybridge`. The graph is written node by node: convolution with batch
norm folded in, ReLU, sum, mean, matrix product, nothing else. torch's own exporter gives the same function, but takes
minutes for the deeper networks (docs/decisions.md). Operator set 17, which every current runtime has.

`OnnxScorer` is the other real implementation of `Scorer`: ONNX Runtime instead of torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from muybridge.inference.flat import block_path, convolutions_with_norms, folded, frames_as_channels, residual_blocks
from muybridge.kernels.convolution import Triples
from muybridge.models.network import VideoResNet
from muybridge.weights.card import METADATA_KEY, Card

OPERATOR_SET = 17
FILE_VERSION = 8  # of the container, the one that came with this operator set
INPUT, OUTPUT = "clips", "logits"


@dataclass(frozen=True)
class _Maps:
    """A value of the graph: its name, and the size of one clip of it."""

    name: str
    size_cthw: tuple[int, ...]


class _Graph:
    """Nodes and weights, gathered in the order of execution."""

    def __init__(self) -> None:
        import onnx  # noqa: PLC0415  (an extra)

        self.onnx = onnx
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, value: NDArray[Any]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))


def write_onnx(network: VideoResNet, card: Card, path: Path, *, two_dimensional: bool = False) -> None:
    """Writes `network` to `path`; `two_dimensional` uses 2-D convolutions alone. ImportError where onnx is not installed."""
    graph = _Graph()
    helper, kind = graph.onnx.helper, graph.onnx.TensorProto.FLOAT
    given = card.preprocessing
    size = (given.input_channels, given.clip_length, given.crop, given.crop)
    maps = _Maps(INPUT, size)
    if two_dimensional:
        maps = _Maps(_frames(graph, INPUT, size), size)
    convolve = _convolve_flat if two_dimensional else _convolve
    maps = _path(graph, maps, network.stem, convolve)
    if network.specification.stem_pool:
        maps = _pool(graph, maps, flat=two_dimensional)
    for block in residual_blocks(network):
        residual = maps if block.downsample is None else _path(graph, maps, block.downsample, convolve)
        out = _path(graph, maps, block_path(block), convolve)
        maps = _Maps(graph.node("Relu", graph.node("Add", out.name, residual.name)), out.size_cthw)
    _classify(graph, maps, network.fc, flat=two_dimensional)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            network.specification.name,
            [helper.make_tensor_value_info(INPUT, kind, ["N", *size])],
            [helper.make_tensor_value_info(OUTPUT, kind, ["N", network.specification.num_classes])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPERATOR_SET)],
        ir_version=FILE_VERSION,
        producer_name="muybridge",
    )
    helper.set_model_props(model, {METADATA_KEY: json.dumps(card.to_json())})
    graph.onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _frames(graph: _Graph, clips: str, size: tuple[int, ...]) -> str:
    """(N, C, T, H, W) -> (N * T, C, H, W)."""
    channels, _, height, width = size
    by_frame = graph.node("Transpose", clips, perm=[0, 2, 1, 3, 4])
    return graph.node("Reshape", by_frame, graph.integers(-1, channels, height, width))


def _path(graph: _Graph, maps: _Maps, module: nn.Module, convolve: Any) -> _Maps:
    for convolution, norm, relu in convolutions_with_norms(module):
        weight, bias = folded(convolution, norm)
        maps = convolve(graph, maps, convolution, weight, graph.constant(bias.numpy()))
        if relu:
            maps = _Maps(graph.node("Relu", maps.name), maps.size_cthw)
    return maps


def _sizes_after(sizes: Sequence[int], kernel: Triples, stride: Triples, padding: Triples) -> tuple[int, ...]:
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(sizes, kernel, stride, padding, strict=True))


def _convolve(graph: _Graph, maps: _Maps, convolution: nn.Conv3d, weight: Tensor, bias: str) -> _Maps:
    kernel, stride, padding = convolution.kernel_size, convolution.stride, convolution.padding
    assert not isinstance(padding, str), "padding is three numbers"
    name = graph.node(
        "Conv",
        maps.name,
        graph.constant(weight.numpy()),
        bias,
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=[*padding, *padding],
    )
    return _Maps(name, (convolution.out_channels, *_sizes_after(maps.size_cthw[1:], kernel, stride, padding)))


def _convolve_flat(graph: _Graph, maps: _Maps, convolution: nn.Conv3d, weight: Tensor, bias: str) -> _Maps:
    """As `flat.FlatConvolution`: frames (N * T, C, H, W) in and out."""
    kernel, stride, padding = convolution.kernel_size, convolution.stride, convolution.padding
    assert not isinstance(padding, str), "padding is three numbers"
    channels, length, height, width = maps.size_cthw
    after = _sizes_after(maps.size_cthw[1:], kernel, stride, padding)
    name = maps.name
    if (kernel[0], stride[0]) != (1, 1):
        name = graph.node("Reshape", name, graph.integers(-1, length, channels * height * width))
        if padding[0]:
            name = graph.node("Pad", name, graph.integers(0, padding[0], 0, 0, padding[0], 0))
        last = stride[0] * (after[0] - 1) + 1
        shifted = [
            graph.node(
                "Slice",
                name,
                graph.integers(shift),
                graph.integers(shift + last),
                graph.integers(1),
                graph.integers(stride[0]),
            )
            for shift in range(kernel[0])
        ]
        name = graph.node("Concat", *shifted, axis=2) if len(shifted) > 1 else shifted[0]
        name = graph.node("Reshape", name, graph.integers(-1, kernel[0] * channels, height, width))
    name = graph.node(
        "Conv",
        name,
        graph.constant(frames_as_channels(weight).numpy()),
        bias,
        kernel_shape=list(kernel[1:]),
        strides=list(stride[1:]),
        pads=[*padding[1:], *padding[1:]],
    )
    return _Maps(name, (convolution.out_channels, *after))


def _pool(graph: _Graph, maps: _Maps, *, flat: bool) -> _Maps:
    """The 1x3x3 max-pool of stride 1x2x2 after the stem."""
    kernel, stride, padding = (1, 3, 3), (1, 2, 2), (0, 1, 1)
    skipped = 1 if flat else 0
    name = graph.node(
        "MaxPool",
        maps.name,
        kernel_shape=list(kernel[skipped:]),
        strides=list(stride[skipped:]),
        pads=[*padding[skipped:], *padding[skipped:]],
    )
    return _Maps(name, (maps.size_cthw[0], *_sizes_after(maps.size_cthw[1:], kernel, stride, padding)))


def _classify(graph: _Graph, maps: _Maps, classifier: nn.Linear, *, flat: bool) -> None:
    name = maps.name
    if flat:
        name = graph.node("ReduceMean", name, axes=[2, 3], keepdims=0)
        name = graph.node("Reshape", name, graph.integers(-1, maps.size_cthw[1], maps.size_cthw[0]))
        name = graph.node("ReduceMean", name, axes=[1], keepdims=0)
    else:
        name = graph.node("ReduceMean", name, axes=[2, 3, 4], keepdims=0)
    weight, bias = (graph.constant(part.detach().numpy()) for part in (classifier.weight, classifier.bias))
    graph.node("Gemm", name, weight, bias, output=OUTPUT, transB=1)


class OnnxScorer:
    """A `Scorer` that runs an ONNX file with ONNX Runtime, on a GPU where both are there and `device` says so."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """ImportError where onnxruntime is not installed; ValueError where the file is not one of ours."""
        try:
            import onnxruntime  # noqa: PLC0415  (an extra)
            from onnxruntime.capi import onnxruntime_pybind11_state as errors  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(
                "reading .onnx files needs onnxruntime; install it with `pip install 'muybridge[onnx]'`"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=[*providers, "CPUExecutionProvider"]
            )
        except (errors.InvalidProtobuf, errors.InvalidGraph, errors.Fail, errors.NotImplemented) as error:
            raise ValueError(
                f"{path} is not an ONNX file that ONNX Runtime can run ({error}); export it again"
            ) from error
        text = self.session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if text is None:
            raise ValueError(
                f"{path} has no card, so nobody knows its classes and preprocessing; export it with `muybridge weights export`"
            )
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError("it is not a JSON object")
            self.card = Card.from_json(values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"the card of {path} is not understood: {error}") from error

    def __call__(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float clips (N, C, T, H, W) -> logits (N, classes) on the CPU, float32."""
        clips = clips_ncthw.detach().float().cpu().contiguous().numpy()
        (logits,) = self.session.run([OUTPUT], {INPUT: clips})
        return torch.from_numpy(logits)
