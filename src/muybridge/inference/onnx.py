"""Write networks as ONNX files, and run such files.

Input: a `VideoResNet` with its card. Output: one file with the input `clips` (N, C, T, H, W), normalised, N free, and the
output `logits` (N, classes); its metadata entry `muybridge` is the card. The graph is built node by node from convolutions with
folded batch norm, ReLU, sum, mean and matrix product, because torch's exporter takes minutes for the deeper networks
(docs/decisions.md). Every current runtime has operator set 17.

`OnnxScorer` is a `Scorer` that uses ONNX Runtime instead of torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from muybridge.inference.finite import check_finite_clips, check_finite_outputs
from muybridge.inference.folded import fold_batch_norm
from muybridge.inference.onnx_checks import check_onnx_file
from muybridge.inference.two_dimensional import check_pools_per_frame, move_frames_to_channels
from muybridge.kernels.forms import IntTuple
from muybridge.models.network import VideoResNet, list_convolution_steps
from muybridge.weights.card import METADATA_KEY, Card, parse_card
from muybridge.weights.tensor_checks import check_network

OPSET_VERSION = 17
IR_VERSION = 8  # of the file format; released with this operator set
INPUT_NAME, OUTPUT_NAME = "clips", "logits"


@dataclass(frozen=True)
class _GraphValue:
    """A value of the graph: its name, and its size for one clip."""

    name: str
    size_cthw: tuple[int, ...]


class _GraphBuilder:
    """Collects nodes and weights in the order of execution."""

    def __init__(self) -> None:
        import onnx  # noqa: PLC0415  (an extra)

        self.onnx = onnx
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add_constant(self, value: NDArray[Any]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add_node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def add_integers(self, *values: int) -> str:
        return self.add_constant(np.array(values, np.int64))


_AddConvolution = Callable[[_GraphBuilder, _GraphValue, nn.Conv3d, Tensor, str], _GraphValue]


def write_onnx(network: VideoResNet, card: Card, path: Path, *, two_dimensional: bool = False) -> None:
    """Write `network` to `path`, with `two_dimensional` by 2-D convolutions only. ImportError if onnx is not installed."""
    check_network(network, network.specification.name)
    graph = _GraphBuilder()
    helper, float_type = graph.onnx.helper, graph.onnx.TensorProto.FLOAT
    preprocessing = card.preprocessing
    size = (preprocessing.input_channels, preprocessing.clip_length, preprocessing.crop, preprocessing.crop)
    maps = _GraphValue(INPUT_NAME, size)
    if two_dimensional:
        check_pools_per_frame(network)
        maps = _GraphValue(_add_frames_reshape(graph, INPUT_NAME, size), size)
    convolve = _add_two_dimensional_convolution if two_dimensional else _add_convolution
    stem, blocks, head = network.split()
    maps = _add_chain(graph, maps, convolve, stem)
    for pool in (module for module in stem if isinstance(module, nn.MaxPool3d)):
        maps = _add_max_pool(graph, maps, pool, two_dimensional=two_dimensional)
    for block in blocks:
        residual = maps if block.downsample is None else _add_chain(graph, maps, convolve, block.downsample)
        out = _add_chain(graph, maps, convolve, *block.convolutions)
        maps = _GraphValue(graph.add_node("Relu", graph.add_node("Add", out.name, residual.name)), out.size_cthw)
    _add_classifier(graph, maps, head, two_dimensional=two_dimensional)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            network.specification.name,
            [helper.make_tensor_value_info(INPUT_NAME, float_type, ["N", *size])],
            [helper.make_tensor_value_info(OUTPUT_NAME, float_type, ["N", network.specification.num_classes])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET_VERSION)],
        ir_version=IR_VERSION,
        producer_name="muybridge",
    )
    helper.set_model_props(model, {METADATA_KEY: json.dumps(card.to_json())})
    graph.onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _add_frames_reshape(graph: _GraphBuilder, clips: str, size: tuple[int, ...]) -> str:
    """(N, C, T, H, W) -> (N * T, C, H, W)."""
    channels, _, height, width = size
    by_frame = graph.add_node("Transpose", clips, perm=[0, 2, 1, 3, 4])
    return graph.add_node("Reshape", by_frame, graph.add_integers(-1, channels, height, width))


def _add_chain(graph: _GraphBuilder, maps: _GraphValue, convolve: _AddConvolution, *modules: nn.Module) -> _GraphValue:
    for step in list_convolution_steps(*modules):
        weight, bias = fold_batch_norm(step)
        maps = convolve(graph, maps, step.convolution, weight, graph.add_constant(bias.numpy()))
        if step.relu:
            maps = _GraphValue(graph.add_node("Relu", maps.name), maps.size_cthw)
    return maps


def _compute_output_sizes(
    sizes: Sequence[int], kernel: IntTuple, stride: IntTuple, padding: IntTuple
) -> tuple[int, ...]:
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(sizes, kernel, stride, padding, strict=True))


def _add_convolution(
    graph: _GraphBuilder, maps: _GraphValue, convolution: nn.Conv3d, weight: Tensor, bias: str
) -> _GraphValue:
    kernel, stride, padding = convolution.kernel_size, convolution.stride, convolution.padding
    assert not isinstance(padding, str), "padding is three numbers"
    name = graph.add_node(
        "Conv",
        maps.name,
        graph.add_constant(weight.numpy()),
        bias,
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=[*padding, *padding],
    )
    return _GraphValue(
        name, (convolution.out_channels, *_compute_output_sizes(maps.size_cthw[1:], kernel, stride, padding))
    )


def _add_two_dimensional_convolution(
    graph: _GraphBuilder, maps: _GraphValue, convolution: nn.Conv3d, weight: Tensor, bias: str
) -> _GraphValue:
    """As `TwoDimensionalConvolution`: frames (N * T, C, H, W) -> (N * T', C', H', W')."""
    kernel, stride, padding = convolution.kernel_size, convolution.stride, convolution.padding
    assert not isinstance(padding, str), "padding is three numbers"
    channels, length, height, width = maps.size_cthw
    output_sizes = _compute_output_sizes(maps.size_cthw[1:], kernel, stride, padding)
    name = maps.name
    if (kernel[0], stride[0]) != (1, 1):
        name = graph.add_node("Reshape", name, graph.add_integers(-1, length, channels * height * width))
        if padding[0]:
            name = graph.add_node("Pad", name, graph.add_integers(0, padding[0], 0, 0, padding[0], 0))
        last = stride[0] * (output_sizes[0] - 1) + 1
        shifted = [
            graph.add_node(
                "Slice",
                name,
                graph.add_integers(shift),
                graph.add_integers(shift + last),
                graph.add_integers(1),
                graph.add_integers(stride[0]),
            )
            for shift in range(kernel[0])
        ]
        name = graph.add_node("Concat", *shifted, axis=2) if len(shifted) > 1 else shifted[0]
        name = graph.add_node("Reshape", name, graph.add_integers(-1, kernel[0] * channels, height, width))
    name = graph.add_node(
        "Conv",
        name,
        graph.add_constant(move_frames_to_channels(weight).numpy()),
        bias,
        kernel_shape=list(kernel[1:]),
        strides=list(stride[1:]),
        pads=[*padding[1:], *padding[1:]],
    )
    return _GraphValue(name, (convolution.out_channels, *output_sizes))


def _add_max_pool(graph: _GraphBuilder, maps: _GraphValue, pool: nn.MaxPool3d, *, two_dimensional: bool) -> _GraphValue:
    """The max-pool after the stem; in two dimensions it is over single frames."""
    kernel, stride, padding = pool.kernel_size, pool.stride, pool.padding
    assert isinstance(kernel, tuple) and isinstance(stride, tuple) and isinstance(padding, tuple), "three numbers each"
    first_axis = 1 if two_dimensional else 0
    name = graph.add_node(
        "MaxPool",
        maps.name,
        kernel_shape=list(kernel[first_axis:]),
        strides=list(stride[first_axis:]),
        pads=[*padding[first_axis:], *padding[first_axis:]],
    )
    return _GraphValue(name, (maps.size_cthw[0], *_compute_output_sizes(maps.size_cthw[1:], kernel, stride, padding)))


def _add_classifier(graph: _GraphBuilder, maps: _GraphValue, classifier: nn.Linear, *, two_dimensional: bool) -> None:
    name = maps.name
    if two_dimensional:
        name = graph.add_node("ReduceMean", name, axes=[2, 3], keepdims=0)
        name = graph.add_node("Reshape", name, graph.add_integers(-1, maps.size_cthw[1], maps.size_cthw[0]))
        name = graph.add_node("ReduceMean", name, axes=[1], keepdims=0)
    else:
        name = graph.add_node("ReduceMean", name, axes=[2, 3, 4], keepdims=0)
    weight, bias = (graph.add_constant(part.detach().numpy()) for part in (classifier.weight, classifier.bias))
    graph.add_node("Gemm", name, weight, bias, output=OUTPUT_NAME, transB=1)


class OnnxScorer:
    """A `Scorer` that runs an ONNX file with ONNX Runtime, on a GPU if `device` is one and this ONNX Runtime supports it."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """ImportError if onnxruntime is not installed; ValueError if `path` is not an ONNX file with a card, or is refused
        by `check_onnx_file`.
        """
        try:
            import onnxruntime  # noqa: PLC0415  (an extra)
            from onnxruntime.capi import onnxruntime_pybind11_state as errors  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(
                "reading .onnx files needs onnxruntime; install it with `pip install 'muybridge[onnx]'`"
            ) from error
        check_onnx_file(path)
        self._run_errors = (errors.InvalidArgument, errors.Fail, errors.RuntimeException, ValueError)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        preferred = ["CUDAExecutionProvider"] if device.type == "cuda" else []
        providers = [name for name in preferred if name in onnxruntime.get_available_providers()]
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
                f"{path} has no card, so its classes and preprocessing are unknown; export it with `muybridge weights export`"
            )
        self.card = parse_card(text, path)

    def __call__(self, clips_ncthw: Tensor) -> Tensor:
        """Normalised float clips (N, C, T, H, W) -> logits (N, classes) on the CPU, float32.

        ValueError for clips or logits that are not finite, and logits of another shape.
        """
        check_finite_clips(clips_ncthw)
        clips = clips_ncthw.detach().float().cpu().contiguous().numpy()
        sizes = self.session.get_inputs()[0].shape[1:]  # names stand for sizes that may vary
        if any(isinstance(size, int) and size != given for size, given in zip(sizes, clips.shape[1:], strict=False)):
            raise ValueError(
                f"the ONNX file takes clips of shape {tuple(sizes)}, for which it was exported, not {clips.shape[1:]}; leave "
                "out evaluation.clip_length and evaluation.crop_size, or use the weights"
            )
        try:
            (logits,) = self.session.run([OUTPUT_NAME], {INPUT_NAME: clips})
        except self._run_errors as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"the ONNX file cannot be run on clips of shape {clips.shape} ({reason}); export it again"
            ) from error
        expected = (len(clips), self.card.specification.num_classes)
        if logits.shape != expected:
            raise ValueError(
                f"the ONNX file has logits of shape {logits.shape}, but {expected} were expected from its card; export it again"
            )
        return check_finite_outputs(torch.from_numpy(logits).float(), "logits")
