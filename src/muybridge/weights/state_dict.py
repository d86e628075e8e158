"""Plain state dicts read with suspicion.

Enters: a file of tensors under our names, which are torchvision's, written by torch.save or as safetensors. Leaves: the
tensors of one network by name. Nothing of the file is ever run: it is read with `weights_only=True`, and what holds more
than tensors is refused (design decision 12).
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from muybridge.weights.card import METADATA_KEY, format_problems

WRAPPER_KEYS = ("state_dict", "model_state_dict", "model")  # where a checkpoint keeps its network
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
)  # what DistributedDataParallel, torch.compile and Lightning put before names
COUNTER = "num_batches_tracked"  # of batch norm; unused at momentum 0.1, absent from some files

# What torch.load and its unpickler raise for bytes that are damaged or not theirs, found by feeding it such bytes.
READ_ERRORS = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    AssertionError,
    TypeError,
    AttributeError,
)


def read_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of one network, by name, floats as float32; wrappings and prefixes of names are taken off."""
    if not file.is_file():
        raise ValueError(f"there is no file {file}; give a state dict (.pt, .pth) or a .safetensors file")
    tensors = _strip_prefixes(_unwrap(file, _read_file(file)))
    check_usable(file, tensors)
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    for name in [name for name in tensors if name.endswith("running_var")]:
        tensors.setdefault(f"{name.removesuffix('running_var')}{COUNTER}", torch.tensor(0))
    return tensors


def _read_file(file: Path) -> Any:
    with file.open("rb") as opened:
        head = opened.read(9)
    if head[8:9] == b"{":  # eight bytes of length, then a header in JSON
        return _read_safetensors(file)
    if not head.startswith((b"PK\x03\x04", b"\x80")):  # a zip, or a pickle of protocol 2 and above
        raise ValueError(
            f"{file} is neither a state dict written by torch.save, nor a safetensors file, nor a Caffe2 pickle"
        )
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused:
            raise ValueError(
                f"{file} holds more than tensors ({refused[1]}), and reading it could run code; it was not run. "
                "Save network.state_dict() alone"
            ) from error
        raise ValueError(f"{file} is damaged, or not a state dict written by torch.save; fetch it again") from error


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
        tensors: dict[str, Tensor] = safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file ({error}); fetch it again") from error
    if METADATA_KEY in metadata:
        raise ValueError(f"{file} has its card already; use it as it is")
    return tensors


def _unwrap(file: Path, content: Any) -> dict[str, Tensor]:
    """The state dict inside what a training script saved."""
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPER_KEYS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{file} holds a {type(content).__name__}, expected a state dict: tensors by name")
    foreign = [
        f"{name!r} is a {type(value).__name__}"
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if foreign:
        raise ValueError(
            f"{file} is not a state dict, which has tensors by name and nothing else: {format_problems(foreign)}"
        )
    return dict(content)


def _strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while common := [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)]:
        tensors = {name.removeprefix(common[0]): tensor for name, tensor in tensors.items()}
    return tensors


def check_usable(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuses tensors that cannot be weights: special forms, other kinds of numbers, numbers that are not finite."""
    problems = [
        f"{name} {problem}"
        for name, tensor in tensors.items()
        if (problem := _describe_problem(tensor, name)) is not None
    ]
    if problems:
        raise ValueError(f"{file} holds tensors that no network can use: {format_problems(problems)}")


def _describe_problem(tensor: Tensor, name: str) -> str | None:
    """What keeps a tensor from being a weight, in words."""
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
        return f"is stored in a special form ({tensor.dtype}, {tensor.layout}), expected plain numbers"
    if tensor.is_floating_point() == name.endswith(COUNTER):
        return f"holds {tensor.dtype}, expected {'whole numbers' if name.endswith(COUNTER) else 'floats'}"
    if not bool(torch.isfinite(tensor).all()):
        return "holds numbers that are not finite"
    return None
