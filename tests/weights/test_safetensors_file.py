from pathlib import Path

import pytest
import safetensors.torch
import torch

from muybridge.weights.safetensors_file import read_metadata, read_safetensors


def test_metadata_and_tensors_are_read(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    safetensors.torch.save_file({"a": torch.arange(3)}, file, {"key": "value"})
    assert read_metadata(file) == {"key": "value"}
    assert torch.equal(read_safetensors(file)["a"], torch.arange(3))


@pytest.mark.parametrize("read", [read_metadata, read_safetensors])
def test_a_header_is_compared_with_the_file_and_the_limit(tmp_path: Path, read: object) -> None:
    assert callable(read)
    file = tmp_path / "x.safetensors"
    file.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="its header claims 1099511627776 bytes"):
        read(file)
    safetensors.torch.save_file({"a": torch.arange(3)}, file, {"key": "x" * (9 << 20)})
    with pytest.raises(
        ValueError, match="above the limit of 8,388,608; set MUYBRIDGE_MAX_HEADER_BYTES to raise it, or save"
    ):
        read(file)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="not a safetensors file"):
        read(file)
