"""2-D convolutions alone: the same logits, and no operator of a program that convolves five dimensions."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.inference.test_onnx import NETWORKS, saved

from muybridge.inference.export import export_weights
from muybridge.inference.two_dimensional import convert_to_two_dimensional


@pytest.mark.parametrize(("name", "changes"), NETWORKS)
def test_the_flat_form_computes_the_same(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    network = saved(tmp_path / "net.safetensors", name, **changes)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    flat = convert_to_two_dimensional(network)
    clips = torch.randn(3, network.specification.input_channels, 7, 30, 27)
    with torch.no_grad():
        ours = network(clips)
        assert torch.allclose(flat(clips), ours, rtol=1e-4, atol=1e-5 * float(ours.abs().max()))
    assert not any(isinstance(module, torch.nn.Conv3d | torch.nn.BatchNorm3d) for module in flat.modules())
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("flat", [False, True])
def test_a_torch_program_computes_our_logits_for_any_batch(tmp_path: Path, flat: bool) -> None:
    network = saved(tmp_path / "net.safetensors")
    export_weights(
        tmp_path / "net.safetensors", tmp_path / "net.pt2", export_format="torch-export", two_dimensional=flat
    )
    with (tmp_path / "net.pt2").open("rb") as file:
        program = torch.export.load(file)  # type: ignore[arg-type]
    for num_clips in (1, 4):
        clips = torch.randn(num_clips, 3, 7, 30, 30)
        with torch.no_grad():
            assert torch.allclose(program.module()(clips), network(clips), rtol=1e-4, atol=1e-5)
    ranks = {
        node.args[0].meta["val"].dim()
        for node in program.graph.nodes
        if node.op == "call_function" and "conv" in str(node.target)
    }
    assert ranks == ({4} if flat else {5})
