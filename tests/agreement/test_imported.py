"""Logits of imported and exported weights against torchvision's own networks.

torchvision is an oracle of the tests alone. Where it is not installed, those tests say so and are skipped; the same
comparisons with a plain evaluation of the operators always run.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.agreement.torchvision_networks import plain_logits, randomize, torchvision_models
from torch import Tensor, nn

from muybridge.inference.export import export_weights
from muybridge.models.family import build_specification
from muybridge.models.network import VideoResNet, create_model
from muybridge.records import Preprocessing
from muybridge.weights.card import load_network, save
from muybridge.weights.importing import ImportOptions, import_weights

NAMES = ("r3d_18", "mc3_18", "r2plus1d_18")
SMALL = Preprocessing(clip_length=8, scale_height=32, scale_width=32, crop=32)
ROOT = Path(__file__).parents[2]
needs_torchvision = pytest.mark.skipif(
    torchvision_models() is None, reason="torchvision is not installed: its own networks were not compared with"
)


def clips() -> Tensor:
    return torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(1))


def close(actual: Tensor, expected: Tensor) -> bool:
    assert expected.std() > 1e-3, "logits so alike would hide a mistake"
    return torch.allclose(actual, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def imported(state: dict[str, Tensor], tmp_path: Path, **options: Any) -> VideoResNet:
    torch.save(state, tmp_path / "net.pth")
    how = ImportOptions(preprocessing=SMALL, **options)
    import_weights(tmp_path / "net.pth", tmp_path / "net.safetensors", how)
    return load_network(tmp_path / "net.safetensors")[0]


def ours(name: str, **changes: Any) -> VideoResNet:
    torch.manual_seed(0)
    network = VideoResNet(build_specification(name, num_classes=5, clip_length=8, **changes))
    randomize(network)
    return network


@pytest.mark.parametrize("name", NAMES)
def test_a_torchvision_layout_computes_what_its_operators_compute(tmp_path: Path, name: str) -> None:
    rule = "per_block" if name == "r2plus1d_18" else "per_convolution"
    state = ours(name, width=8, mid_channel_rule=rule).state_dict()
    network = imported(state, tmp_path)
    assert network.specification.norm_epsilon == 1e-5
    with torch.no_grad():
        assert close(network(clips()), plain_logits(state, clips()))
        assert not close(network(clips()), plain_logits(state, clips(), epsilon=1e-3)), "epsilon does not show"


@needs_torchvision
@pytest.mark.parametrize("name", NAMES)
def test_torchvision_weights_give_torchvisions_logits(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    theirs = randomize(getattr(torchvision_models(), name)(num_classes=7))
    network = imported(theirs.state_dict(), tmp_path)
    with torch.no_grad():
        assert close(network(clips()), theirs(clips()))
        assert close(plain_logits(theirs.state_dict(), clips()), theirs(clips())), (
            "the stand-in of these tests is wrong"
        )


def test_ig65m_weights_compute_with_the_authors_epsilon(tmp_path: Path) -> None:
    state = ours("r2plus1d_34", width=8).state_dict()
    for source in ("ig65m", "vmz", None):
        network = imported(state, tmp_path, source=source)
        with torch.no_grad():
            assert close(network(clips()), plain_logits(state, clips(), epsilon=1e-3))


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3, 0.05])
def test_exported_to_torchvision_the_outputs_are_equal_at_its_epsilon(tmp_path: Path, epsilon: float) -> None:
    network = ours("r2plus1d_10", norm_epsilon=epsilon)
    save(network, tmp_path / "net.safetensors", classes=[*"abcde"], preprocessing=SMALL)
    result = export_weights(tmp_path / "net.safetensors", tmp_path / "out.pth", export_format="torchvision")
    state = torch.load(tmp_path / "out.pth", weights_only=True)
    with torch.no_grad():
        assert close(plain_logits(state, clips()), network(clips()))
    assert any("added to every running variance" in note for note in result.notes) == (epsilon != 1e-5)


def test_networks_that_torchvision_cannot_represent_are_refused(tmp_path: Path) -> None:
    for name, changes, sentence in (
        ("mc2_10", {}, "it has only the families r3d, mc3, r2plus1d"),
        ("r3d_10", {"width": 8}, "its width is 64, not 8"),
        ("r3d_10", {"norm_epsilon": 1e-6}, "variances could be negative"),
        ("r3d_10", {"stem_pool": True}, "no max-pool after the stem"),
        ("r2plus1d_10", {"middle_relu": False}, "it has ReLU between the halves"),
    ):
        save(ours(name, **changes), tmp_path / "net.safetensors", classes=[*"abcde"], preprocessing=SMALL)
        with pytest.raises(ValueError, match=sentence):
            export_weights(tmp_path / "net.safetensors", tmp_path / "out.pth", export_format="torchvision")
    assert not (tmp_path / "out.pth").exists()


def documented_class() -> str:
    """The example of docs/weights.md that builds torchvision's class for per-convolution weights."""
    text = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Conv2Plus1D(" in block]
    return block


@needs_torchvision
@pytest.mark.parametrize(
    ("name", "source"), [("r2plus1d_18", "muybridge"), ("r3d_18", "muybridge"), ("r2plus1d_18", None)]
)
def test_exported_weights_load_in_torchvisions_class_as_the_docs_show(tmp_path: Path, name: str, source: Any) -> None:
    torchvision_models()
    rule = "per_convolution" if source else "per_block"
    network = ours(name, mid_channel_rule=rule)
    save(network, tmp_path / "net.safetensors", classes=[*"abcde"], preprocessing=SMALL)
    export_weights(tmp_path / "net.safetensors", tmp_path / "exported.pth", export_format="torchvision")
    theirs: nn.Module
    if name == "r2plus1d_18" and source:
        program = documented_class().replace('"exported.pth"', repr(str(tmp_path / "exported.pth"))).replace("400", "5")
        names: dict[str, Any] = {}
        exec(program, names)
        theirs = names["network"]
    else:
        theirs = getattr(torchvision_models(), name)(num_classes=5)
        theirs.load_state_dict(torch.load(tmp_path / "exported.pth", weights_only=True))
    with torch.no_grad():
        assert close(theirs.eval()(clips()), network(clips()))


@pytest.mark.parametrize(("to", "epsilon", "rule", "source"), [
    ("torchvision", 1e-5, "per_block", "torchvision"),
    ("state-dict", 1e-3, "per_convolution", "ig65m"),
    ("state-dict", 1e-5, "per_block", "torchvision"),
])  # fmt: skip
def test_import_export_import_is_bit_identical(tmp_path: Path, to: Any, epsilon: float, rule: Any, source: Any) -> None:
    width = 64 if to == "torchvision" else 8  # torchvision has no other
    first = ours("r2plus1d_10", norm_epsilon=epsilon, mid_channel_rule=rule, width=width).state_dict()
    network = imported(first, tmp_path, source=source)
    assert network.specification.norm_epsilon == epsilon
    export_weights(tmp_path / "net.safetensors", tmp_path / "out.pth", export_format=to)
    second = torch.load(tmp_path / "out.pth", weights_only=True)
    assert second.keys() == first.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    again = imported(second, tmp_path, source=source)
    assert again.specification == network.specification
    assert all(torch.equal(again.state_dict()[name], first[name]) for name in first)


def test_a_training_step_moves_batch_norm_as_caffe2_does() -> None:
    """Caffe2's momentum 0.9 keeps nine tenths (spatial_batch_norm_op.h): torch's 0.1; with its epsilon of 1e-3."""
    torch.manual_seed(0)
    network = create_model("r3d_10", width=4, num_classes=3)
    _, norm = list(network.stem)[:2]
    assert isinstance(norm, nn.BatchNorm3d)
    mean_before, variance_before = torch.randn(4) * 0.1, torch.rand(4) + 0.5
    norm.running_mean.copy_(mean_before)  # type: ignore[union-attr]
    norm.running_var.copy_(variance_before)  # type: ignore[union-attr]
    seen: list[tuple[Tensor, Tensor]] = []
    norm.register_forward_hook(
        lambda _, inputs, output: seen.append((inputs[0].detach().clone(), output.detach().clone()))
    )
    network.train()(torch.randn(2, 3, 4, 32, 32) * 0.01)
    maps, normalised = seen[0]
    values = maps.transpose(0, 1).flatten(1).double()
    mean, variance = values.mean(1), values.var(1, unbiased=False)
    count = values.shape[1]
    assert torch.allclose(norm.running_mean.double(), 0.9 * mean_before + 0.1 * mean, atol=1e-7)  # type: ignore[union-attr]
    expected = 0.9 * variance_before + 0.1 * variance * count / (count - 1)
    assert torch.allclose(norm.running_var.double(), expected, atol=1e-7)  # type: ignore[union-attr]
    wide = [part[:, None, None, None] for part in (mean, variance)]
    by_hand = ((maps.double() - wide[0]) / (wide[1] + 1e-3).sqrt()).float()
    assert (variance < 1e-3).any(), "epsilon does not show"
    assert torch.allclose(normalised, by_hand.relu(), atol=1e-4) or torch.allclose(normalised, by_hand, atol=1e-4)
