"""Check an ONNX file before ONNX Runtime opens it: finite weights, and no memory that its size does not explain.

Input: the path of a file. An operator such as ConstantOfShape or Expand makes a tensor of any size from a few bytes, and ONNX
Runtime would run it while it opens the file. Only operators whose output follows from their input are accepted, weights lie in
the file with the number of bytes that their shape needs, and no value is much larger than a clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.bounds import LARGEST_NUMBER
from muybridge.files.limited_child import check_in_child
from muybridge.limits import ONNX_BYTES
from muybridge.text import join_names

# Those of `write_onnx`, and those that optimizers and quantizers replace them by.
_OPERATORS = {
    *("Conv", "Relu", "Add", "ReduceMean", "Gemm", "MaxPool", "Reshape", "Pad", "Slice", "Concat", "Transpose"),
    *("FusedConv", "Clip", "Mul", "Sub", "Div", "Sqrt", "MatMul", "BatchNormalization", "AveragePool"),
    *("GlobalAveragePool", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast", "Constant", "Dropout", "Softmax"),
    *(
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "ConvInteger",
        "QLinearMatMul",
        "MatMulInteger",
    ),
}
_MAX_LISTED_PROBLEMS = 3
_MAX_PADDING = 64  # of a convolution, pool or Pad on one side
_MAX_CLIP_MULTIPLE = 256  # elements of a value by those of the clip; conv1 has 6 times as many as an RGB clip


def check_onnx_file(path: Path) -> None:
    """Raise ValueError for a file that is not ONNX, weights that are not finite, or operators and sizes as above.

    A child process of limited memory looks at it: two bytes of a file can be a node, which takes hundreds. Raises ImportError
    if onnx is not installed, and OSError.
    """
    if find_spec("onnx") is None:
        raise ImportError("reading .onnx files needs onnx; install it with `pip install 'muybridge[onnx]'`")
    path.stat()
    try:
        check_in_child(_inspect_onnx_file, str(path), ONNX_BYTES)
    except ValueError as error:
        raise ValueError(f"{path} is not run: {error}; export it again with `muybridge weights export`") from error


def _inspect_onnx_file(path: str) -> None:
    """As `check_onnx_file`, in this process."""
    import onnx  # noqa: PLC0415  (an extra)
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"it is not an ONNX file, or is truncated ({error})") from error
    problems = [*_list_operator_problems(model), *_list_weight_problems(onnx, model)]
    if not problems:
        problems += _list_size_problems(onnx, model)
    if problems:
        raise ValueError(join_names(problems, "; ", max_names=_MAX_LISTED_PROBLEMS))


def _list_operator_problems(model: Any) -> Iterator[str]:
    if model.functions or model.graph.sparse_initializer:
        yield "it has functions or sparse weights, expected a plain graph"
    for name in sorted({node.op_type for node in model.graph.node} - _OPERATORS):
        yield f"it has the operator {name}, which a network of the family does not need"
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "pads" and any(not 0 <= value <= _MAX_PADDING for value in attribute.ints):
                yield f"{node.name or node.op_type} has the padding {list(attribute.ints)}, expected at most {_MAX_PADDING}"


def _list_weight_problems(onnx: Any, model: Any) -> Iterator[str]:
    paddings = {node.input[1] for node in model.graph.node if node.op_type == "Pad" and len(node.input) > 1}
    constants = [
        (node.output[0], attribute.t)
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.HasField("t")
    ]
    for name, tensor in [*((tensor.name, tensor) for tensor in model.graph.initializer), *constants]:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield f"{name} lies in another file, expected one file"
            continue
        if math.prod(tensor.dims) > tensor.ByteSize() or any(size < 0 for size in tensor.dims):
            yield f"{name} has the shape {tuple(tensor.dims)}, but {tensor.ByteSize()} bytes"
            continue
        try:
            values = onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            yield f"{name} is damaged ({type(error).__name__}: {error})"
            continue
        extremes = (values.min(), values.max()) if values.dtype.kind == "f" and values.size else (0.0, 0.0)
        largest = float(np.abs(extremes).max())
        if not np.isfinite(largest):
            yield f"{name} holds numbers that are not finite"
        elif largest > LARGEST_NUMBER:
            yield f"{name} holds numbers as large as {largest:.0e}, expected at most {LARGEST_NUMBER:.0e}"
        if name in paddings and (np.abs(values) > _MAX_PADDING).any():
            yield f"{name} pads by {values.max()}, expected at most {_MAX_PADDING}"


def _list_size_problems(onnx: Any, model: Any) -> Iterator[str]:
    """Values that are much larger than a clip, as far as shapes can be inferred; the batch counts as one clip."""
    (clips, *_) = model.graph.input or [None]
    limit = _MAX_CLIP_MULTIPLE * (_count_elements(clips) if clips is not None else 1)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        yield f"its shapes contradict each other ({str(error).strip().splitlines()[0]})"
        return
    for value in inferred.value_info:
        if _count_elements(value) > limit:
            yield f"{value.name} has {_count_elements(value)} numbers for a clip, expected at most {limit}"


def _count_elements(value: Any) -> int:
    return math.prod(max(1, dimension.dim_value) for dimension in value.type.tensor_type.shape.dim)
