"""Read plain state dicts safely.

Input: a file of tensors under torchvision's names, written by torch.save or as safetensors. Output: the tensors of one network
by name. No code in the file is run: it is read with `weights_only=True`, and anything but tensors is a ValueError (design
decision 12).
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

from muybridge.weights.card import METADATA_KEY
from muybridge.weights.tensor_checks import COUNTER, check_usable, format_problems

WRAPPER_KEYS = ("state_dict", "model_state_dict", "model")  # of a checkpoint, for the state dict of its network
PREFIXES = ("module.", "_orig_mod.", "model.")  # of DistributedDataParallel, torch.compile and Lightning

# What torch.load and its unpickler were seen to raise for damaged or foreign bytes.
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
    """Read the tensors of one network by name, floats as float32, without wrapping dictionaries and prefixes of names."""
    if not file.is_file():
        raise ValueError(f"there is no file {file}; give a state dict (.pt, .pth) or a .safetensors file")
    tensors = _strip_prefixes(_unwrap(file, _read_file(file)))
    check_usable(file, tensors)
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    add_batch_counters(tensors)
    return tensors


def add_batch_counters(tensors: dict[str, Tensor]) -> None:
    """Add `num_batches_tracked` of batch norm, 0, where a file has none, in place."""
    for name in [name for name in tensors if name.endswith("running_var")]:
        tensors.setdefault(f"{name.removesuffix('running_var')}{COUNTER}", torch.tensor(0))


def _read_file(file: Path) -> Any:
    with file.open("rb") as opened:
        head = opened.read(9)
    if head[8:9] == b"{":  # safetensors: eight bytes of length, then a header in JSON
        return _read_safetensors(file)
    if not head.startswith((b"PK\x03\x04", b"\x80")):  # a zip, or a pickle of protocol 2 and above
        raise ValueError(
            f"{file} is neither a state dict written by torch.save, nor a safetensors file, nor a Caffe2 pickle"
        )
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        refused_global = re.search(r"GLOBAL (\S+)", str(error))
        if refused_global:
            raise ValueError(
                f"{file} holds more than tensors ({refused_global[1]}), and reading it could run code; it was not run. "
                "Save network.state_dict() alone"
            ) from error
        raise ValueError(f"{file} is damaged, or not a state dict written by torch.save; download it again") from error


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
        tensors: dict[str, Tensor] = safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is not a complete safetensors file ({error}); download it again") from error
    if METADATA_KEY in metadata:
        raise ValueError(f"{file} already has a card; use it without importing")
    return tensors


def _unwrap(file: Path, content: Any) -> dict[str, Tensor]:
    """Find the state dict in a checkpoint of a training script."""
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPER_KEYS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{file} holds a {type(content).__name__}, expected a state dict: tensors by name")
    problems = [
        f"{name!r} is a {type(value).__name__}"
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if problems:
        raise ValueError(f"{file} is not a state dict, which maps names to tensors only: {format_problems(problems)}")
    return dict(content)


def _strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while common := [prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in tensors)]:
        tensors = {name.removeprefix(common[0]): tensor for name, tensor in tensors.items()}
    return tensors
