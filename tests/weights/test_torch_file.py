"""Files of torch.save are read as torch reads them, and never larger than they are."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from muybridge.weights.torch_file import TensorStandIn, flatten_tensors, read_torch_file


def written(path: Path, content: Any, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def read(file: Path) -> dict[str, torch.Tensor]:
    tensors = flatten_tensors(read_torch_file(file).content)
    return {path: tensor.read(file) for path, tensor in tensors.items() if isinstance(tensor, TensorStandIn)}


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_are_those_that_torch_reads(tmp_path: Path, legacy: bool) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    content = {
        "plain": base,
        "strided": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "scalar": torch.tensor(7),
        "empty": torch.empty(0, 3),
        "nested": [{"half": base.half()}, (torch.nn.Parameter(base.to(torch.bfloat16)), torch.tensor([True, False]))],
        "channels_last": torch.randn(2, 3, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d),
    }
    actual = read(written(tmp_path / "x.pt", content, legacy=legacy))
    expected = {
        **{name: tensor for name, tensor in content.items() if isinstance(tensor, torch.Tensor)},
        "nested.0.half": content["nested"][0]["half"],
        "nested.1.0": content["nested"][1][0],
        "nested.1.1": content["nested"][1][1],
    }
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        assert torch.equal(actual[name], tensor.detach()), name
        assert actual[name].is_contiguous()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickled_module_is_its_state_dict(tmp_path: Path, legacy: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Conv3d(2, 3, 1), torch.nn.Sequential(torch.nn.BatchNorm3d(3)))
    actual = read(written(tmp_path / "x.pt", {"net": module}, legacy=legacy))
    expected = {f"net.{name}": tensor for name, tensor in module.state_dict().items()}
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("legacy", [False, True])
def test_an_expanded_tensor_is_refused(tmp_path: Path, legacy: bool) -> None:
    file = written(tmp_path / "x.pt", {"a": torch.zeros(1).expand(1 << 20, 1 << 12)}, legacy=legacy)
    with pytest.raises(ValueError, match=r"has 4294967296 numbers, but 1 lie in the file.*tensor.contiguous"):
        read_torch_file(file)


def test_records_that_claim_more_than_the_file_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "x.pt", {"a": torch.zeros(1 << 20)})
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    with pytest.raises(ValueError, match="records claim more bytes than it has"):
        read_torch_file(tmp_path / "y.pt")


def test_programs_are_named(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:  # the records by which torch knows one
        archive.writestr("x/constants.pkl", b"")
    with pytest.raises(ValueError, match=r"a TorchScript program.*state_dict"):
        read_torch_file(tmp_path / "script.pt")
    torch.export.save(torch.export.export(module, (torch.zeros(1, 2),)), tmp_path / "x.pt2")
    with pytest.raises(ValueError, match=r"a program of torch\.export"):
        read_torch_file(tmp_path / "x.pt2")


def test_shared_and_cyclic_containers_are_visited_once(tmp_path: Path) -> None:
    shared: list[Any] = [torch.zeros(1)]
    for _ in range(40):
        shared = [shared, shared]
    cyclic: list[Any] = [torch.ones(1)]
    cyclic.append(cyclic)
    assert list(read(written(tmp_path / "x.pt", {"cyclic": cyclic}))) == ["cyclic.0"]
    assert flatten_tensors(read_torch_file(written(tmp_path / "y.pt", shared)).content) == {}  # deeper than is searched
