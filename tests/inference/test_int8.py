"""8-bit inference: close to the network for every family member, and levels that keep zero exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from muybridge.inference.folded import optimize
from muybridge.inference.int8 import QuantizationParams, has_fast_int8, quantize
from muybridge.models.network import VideoResNet, create_model

needs_int8 = pytest.mark.skipif(not has_fast_int8(), reason="this processor has no 8-bit dot products")


def used(name: str, **changes: object) -> tuple[VideoResNet, Tensor]:
    """A network whose statistics are those of some clips, and the clips."""
    torch.manual_seed(0)
    net = create_model(name, num_classes=7, width=8, clip_length=8, **changes).train()  # type: ignore[arg-type]
    clips = torch.randn(8, 3, 8, 40, 40)
    for _ in range(3):
        net(clips)
    return net.eval(), clips


@needs_int8
@pytest.mark.parametrize(
    "name", [*(f"{family}_10" for family in ("r2d", "f_r2d", "r3d", "mc3", "rmc3", "r2plus1d")), "r2plus1d_50"]
)
def test_logits_are_close_to_the_networks(name: str) -> None:
    net, clips = used(name)
    with torch.no_grad():
        expected = net(clips)
    got = quantize(net, clips)(clips)
    assert got.shape == expected.shape
    assert not torch.allclose(got, expected, atol=1e-6), "it is another function"
    deviations = expected - expected.mean(0)  # differences between clips, which decide the class
    assert (got - expected).norm() < (0.5 if name.endswith("50") else 0.15) * deviations.norm()


@needs_int8
def test_other_sizes_a_max_pool_and_features() -> None:
    net, _ = used("r2plus1d_10", stem_pool=True)
    clips = torch.randn(3, 3, 5, 33, 47)
    small, exact = quantize(net, clips), optimize(net)
    for some in (clips, clips[:1], torch.randn(2, 3, 9, 40, 36)):
        expected = exact.features(some)
        assert (small.features(some) - expected).abs().max() < 0.1 * expected.abs().max()


@needs_int8
def test_the_network_is_left_as_it_was_and_errors_are_sentences() -> None:
    net, clips = used("r2plus1d_10")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    quantize(net, clips)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    with pytest.raises(ValueError, match="takes clips of shape"):
        quantize(net, torch.randn(2, 2, 8, 40, 40))
    with pytest.raises(ValueError, match="only a network as create_model builds it"):
        quantize(torch.nn.Linear(1, 1), clips)  # type: ignore[arg-type]


@needs_int8
def test_levels_cover_all_clips_in_any_order_and_memory_layout() -> None:
    net, clips = used("r2plus1d_10")
    clips[0] *= 4  # the largest values come first, or last
    small = quantize(net, clips)
    turned = quantize(net, clips.flip(0))
    assert small.output_params == turned.output_params
    assert torch.equal(small(clips), turned(clips))
    assert torch.equal(small(clips.contiguous(memory_format=torch.channels_last_3d)), small(clips))
    largest = optimize(net).blocks(optimize(net).stem(clips.contiguous(memory_format=torch.channels_last_3d))).max()
    assert small.output_params.scale * 255 == pytest.approx(float(largest), rel=1e-3)


def test_without_the_instructions_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(RuntimeError, match="no 8-bit dot products"):
        quantize(create_model("r2plus1d_10", width=8), torch.randn(1, 3, 8, 40, 40))


@pytest.mark.parametrize(("smallest", "largest"), [(-2.0, 3.0), (0.0, 5.0), (1.0, 2.0), (-3.0, -1.0), (0.0, 0.0)])
def test_levels_cover_the_range_and_hold_zero(smallest: float, largest: float) -> None:
    levels = QuantizationParams.from_range(smallest, largest)
    values = torch.linspace(min(smallest, 0), max(largest, 0), 99)
    assert (levels.dequantize(levels.quantize(values)) - values).abs().max() <= levels.scale / 2 + 1e-6
    assert levels.dequantize(levels.quantize(torch.zeros(1))) == 0
