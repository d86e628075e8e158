"""Read the authors' Caffe2 weights (VMZ, 2018 and 2019): a pickle of arrays by blob name.

Input: a `.pkl` file as written by VMZ's minidb_to_pickle.py: protocol 2 of Python 2, `{"blobs": {name: array}}` or the inner
dictionary. Output: tensors under torchvision's names, every blob used once. A pickle is a program, so it is read by an
unpickler that only knows arrays of numbers. It does not call numpy's own loaders either: a hostile dtype could make them read
memory out of bounds, so arrays are built here from their bytes.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from muybridge.models.family import DEPTHS
from muybridge.weights.inert_pickle import PICKLE_ERRORS, InertDict, InertUnpickler, PickleLimitError, UnsafePickleError
from muybridge.weights.state_dict import add_batch_counters
from muybridge.weights.tensor_checks import format_problems

# State of training that is saved with the weights (train_net.py saves momentum), ignored by name.
TRAINING_BLOBS = re.compile(r"(^|_)(momentum|lr|iter|iteration|epoch)(_|\d|$)", re.IGNORECASE)
# Caffe2's SpatialBN calls the plain running variance `riv` (spatial_batch_norm_op.h): it is copied, not inverted.
NORM_PARTS = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}
_MAX_DIMENSIONS = 32  # of an array, in any numpy
NUMBER_TYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
BYTE_ORDERS = {"<": "<", ">": ">", "|": "|", "=": "<" if sys.byteorder == "little" else ">"}


def read_blobs(file: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a VMZ pickle by blob name, without name scopes such as `gpu_0/` and without state of training.

    ValueError if the pickle is damaged or refers to anything but arrays of numbers, in which case none of it is run.
    """
    try:
        with file.open("rb") as opened:
            content = InertUnpickler(opened, file.stat().st_size, _KNOWN, strict=True).load()
    except UnsafePickleError as error:
        raise ValueError(
            f"{file} holds more than arrays of numbers ({error}), and reading it could run code; it was not run. "
            "Download it again from its publisher"
        ) from error
    except PickleLimitError as error:
        raise ValueError(f"{file} is not read: {error}") from error
    except PICKLE_ERRORS as error:
        raise ValueError(f"{file} is damaged, or not a pickle of Caffe2 blobs; download it again") from error
    return _convert_arrays(file, content)


def _convert_arrays(file: Path, content: Any) -> dict[str, NDArray[Any]]:
    content = _complete(content)
    if isinstance(content, dict) and isinstance(content.get("blobs"), dict):
        content = _complete(content["blobs"])
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file} holds a {_format_type(content)}, expected Caffe2 blobs: arrays by name")
    problems = [
        f"{name!r} is a {_format_type(value)}"
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, _ArrayStandIn | int | float))
    ]
    if problems:
        raise ValueError(
            f"{file} does not hold Caffe2 blobs, which map names to arrays only: {format_problems(problems)}"
        )
    blobs: dict[str, NDArray[Any]] = {}
    num_bytes_left = file.stat().st_size
    for scoped_name, value in content.items():
        name = scoped_name.rpartition("/")[2]
        if TRAINING_BLOBS.search(name):
            continue
        if name in blobs:
            raise ValueError(
                f"{file} holds the blob {name} twice, in different name scopes; export one copy of the network"
            )
        try:
            array = value.to_numpy() if isinstance(value, _ArrayStandIn) else _convert_number(value)
            if isinstance(value, _ArrayStandIn) and (num_bytes_left := num_bytes_left - array.nbytes) < 0:
                raise ValueError("shares its numbers with others")
        except ValueError as error:
            raise ValueError(f"{file} is damaged: the blob {name} {error}; download it again") from error
        blobs[name] = array
    return blobs


def _convert_number(value: float) -> NDArray[Any]:
    try:
        return np.asarray(value, np.float64)
    except OverflowError as error:
        raise ValueError("is a number that no array holds") from error


def _complete(content: Any) -> Any:
    return content.complete() if isinstance(content, InertDict) else content


def convert_blobs(blobs: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Convert blobs to float32 tensors under our names. ValueError for a blob that no network of the family has."""
    positions = _find_block_positions(blobs)
    factorized = {name.removesuffix("_middle_w") for name in blobs if name.endswith("_middle_w")}
    renamed = {blob: _translate_name(blob, positions, factorized) for blob in blobs}
    unknown = [f"{blob} {blobs[blob].shape}" for blob, name in renamed.items() if name is None]
    if unknown:
        raise ValueError(f"no network of the family has the Caffe2 blobs {format_problems(unknown)}")
    classifiers = [blob for blob, name in renamed.items() if name == "fc.weight"]
    if len(classifiers) != 1:
        raise ValueError(
            f"a network has one classifier, but {len(classifiers)} were found ({', '.join(classifiers) or 'no last_out_L*_w'})"
        )
    tensors = {
        str(name): torch.from_numpy(np.array(blobs[blob], np.float32, order="C")) for blob, name in renamed.items()
    }
    add_batch_counters(tensors)  # Caffe2 has none
    return tensors


def _translate_name(blob: str, positions: Mapping[int, tuple[int, int]], factorized: set[str]) -> str | None:
    """Our name of a blob, None if it has none. `factorized` are convolutions with two halves, their names without `_w`."""
    is_stem_factorized = "conv1" in factorized  # then conv1_middle is its first half, conv1 the second
    if matched := re.fullmatch(r"conv1(_middle)?_w", blob):
        return f"stem.{3 if is_stem_factorized and not matched[1] else 0}.weight"
    if matched := re.fullmatch(r"conv1(_middle)?_spatbn_relu_(s|b|rm|riv)", blob):
        return f"stem.{4 if is_stem_factorized and not matched[1] else 1}.{NORM_PARTS[matched[2]]}"
    if matched := re.fullmatch(r"last_out_L\d+_(w|b)", blob):
        return "fc.weight" if matched[1] == "w" else "fc.bias"
    if not (matched := re.match(r"(?:comp|shortcut_projection)_(\d+)_", blob)) or int(matched[1]) not in positions:
        return None
    stage, block = positions[int(matched[1])]
    start, rest = f"layer{stage}.{block}", blob[matched.end() :]
    if blob.startswith("shortcut"):
        if rest == "w":
            return f"{start}.downsample.0.weight"
        norm = re.fullmatch(r"spatbn_(s|b|rm|riv)", rest)
        return f"{start}.downsample.1.{NORM_PARTS[norm[1]]}" if norm else None
    if weight := re.fullmatch(r"(conv_(\d))(_middle)?_w", rest):
        is_factorized = f"{matched[0]}{weight[1]}" in factorized
        half = (".0" if weight[3] else ".3") if is_factorized else ""
        return f"{start}.conv{weight[2]}.0{half}.weight"
    if norm := re.fullmatch(r"spatbn_(\d)(_middle)?_(s|b|rm|riv)", rest):
        return f"{start}.conv{norm[1]}.{'0.1' if norm[2] else '1'}.{NORM_PARTS[norm[3]]}"
    return None


def _find_block_positions(blobs: Mapping[str, NDArray[Any]]) -> dict[int, tuple[int, int]]:
    """Positions of blocks, which Caffe2 numbers through the network: number -> (stage 1 to 4, index in the stage)."""
    numbers = {int(match[1]) for name in blobs if (match := re.match(r"comp_(\d+)_", name))}
    if "conv1_w" not in blobs or not numbers:
        first = ", ".join(sorted(blobs)[:3])
        raise ValueError(
            f"there are no Caffe2 blobs conv1_w and comp_0_*, so this is not a video ResNet; the first are {first}"
        )
    block = "bottleneck" if any(re.match(r"comp_\d+_conv_3_", name) for name in blobs) else "basic"
    for block_type, counts in DEPTHS.values():
        if block_type == block and numbers == set(range(sum(counts))):
            positions = [(stage, index) for stage, count in enumerate(counts, start=1) for index in range(count)]
            return dict(enumerate(positions))
    known = ", ".join(f"{sum(counts)} {block_type}" for block_type, counts in DEPTHS.values())
    raise ValueError(
        f"there are {len(numbers)} {block} blocks up to comp_{max(numbers)}; the family's depths have {known}"
    )


class _DtypeStandIn:
    """A stand-in for numpy.dtype."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        if not isinstance(name, str) or name not in NUMBER_TYPES:
            raise UnsafePickleError(f"an array of {name!r}" if isinstance(name, str) else "an array of records")
        self.name = str(name)
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state[1], str) or state[1] not in BYTE_ORDERS or any(part is not None for part in state[2:5]):
            raise UnsafePickleError("an array of records")
        self.order = BYTE_ORDERS[state[1]]

    def to_dtype(self) -> np.dtype[Any]:
        return np.dtype(f"{self.order}{self.name}")


class _ArrayStandIn:
    """A stand-in for numpy.ndarray, converted by `to_numpy`."""

    def __init__(self) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.state = tuple(state)

    def to_numpy(self) -> NDArray[Any]:
        """The array. ValueError if its state is invalid or its shape and bytes do not match."""
        match self.state:
            case (
                *_,
                tuple() as shape,
                _DtypeStandIn() as dtype,
                bool() | int() as is_column_major,
                str() | bytes() | _EncodedText() as content,
            ):
                pass
            case _:
                raise ValueError("is an array without numbers")
        text = content.text if isinstance(content, _EncodedText) else content
        try:
            data = text.encode("latin1") if isinstance(text, str) else text
        except UnicodeEncodeError as error:
            raise ValueError("has characters in place of bytes") from error
        if len(shape) > _MAX_DIMENSIONS or not all(type(size) is int and 0 <= size <= sys.maxsize for size in shape):
            raise ValueError("has a shape that no array has")
        if len(data) != math.prod(shape) * dtype.to_dtype().itemsize:
            raise ValueError(
                f"has {len(data)} bytes, its shape {shape} needs {math.prod(shape) * dtype.to_dtype().itemsize}"
            )
        numbers = np.frombuffer(data, dtype.to_dtype())
        try:
            array = numbers.reshape(shape, order="F" if is_column_major else "C")
        except ValueError as error:  # no numbers, in a shape whose other sizes are too large
            raise ValueError("has a shape that no array has") from error
        return array.astype(dtype.name)


def _reconstruct(*_: Any) -> _ArrayStandIn:
    """Replaces numpy's function of this name: an empty array, which the pickle's next instruction fills."""
    return _ArrayStandIn()


def _scalar(dtype: Any, content: Any) -> _ArrayStandIn:
    """Replaces numpy's function of this name: a single number, such as a learning rate."""
    array = _ArrayStandIn()
    array.state = ((), dtype, False, content)
    return array


class _EncodedText:
    """Replaces _codecs.encode, with which Python 3 writes bytes into old pickles; converted when the array is."""

    def __init__(self, text: Any = "", *_: Any) -> None:
        self.text = str(text)


# All globals that a pickle may refer to. numpy moved its core in version 2.
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ArrayStandIn,
    ("numpy", "dtype"): _DtypeStandIn,
    ("_codecs", "encode"): _EncodedText,
    ("collections", "OrderedDict"): InertDict,
} | {
    (module, name): stand_in
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name, stand_in in (("_reconstruct", _reconstruct), ("scalar", _scalar))
}


def _format_type(value: Any) -> str:
    return "single array" if isinstance(value, _ArrayStandIn) else type(value).__name__
