"""Read safetensors files whose header is no larger than a network needs."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from muybridge.limits import HEADER_BYTES


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file. ValueError if it is not complete, or its header claims more than the file has or the limit."""
    _check_header(path)
    try:
        with safetensors.safe_open(path, "pt") as opened:
            return opened.metadata() or {}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is truncated ({error}); download it again") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name. ValueError as `read_metadata`."""
    _check_header(path)
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file, or is truncated ({error}); download it again") from error
    return tensors


def _check_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if length > size - 8:
        raise ValueError(f"{path} is not a safetensors file, or is truncated: its header claims {length} bytes")
    if problem := HEADER_BYTES.exceed(length):
        raise ValueError(f"{path} has a header of {problem}, or save weights alone")
