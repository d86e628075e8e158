import pytest
import torch
from torch import nn

from muybridge.models.network import VideoResNet, create_model
from muybridge.weights.transfer import average_stem, freeze, load_pretrained, train_mode


def small(name: str = "r2plus1d_10", seed: int = 0, classes: int = 3, **changes: int) -> VideoResNet:
    torch.manual_seed(seed)
    return create_model(name, num_classes=classes, width=4, **{"clip_length": 8, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10", "rmc3_10", "r2d_10"])
def test_a_flow_stem_sees_the_mean_over_colours(name: str) -> None:
    """A grey clip in RGB and the same values as flow differ by the number of channels alone."""
    source, network = small(name), small(name, seed=1, input_channels=2)
    load_pretrained(source, network, None)
    ours, theirs = network.state_dict(), source.state_dict()
    assert torch.allclose(ours["stem.0.weight"][:, 0], theirs["stem.0.weight"].mean(1))
    assert torch.equal(ours["stem.0.weight"][:, 0], ours["stem.0.weight"][:, 1])
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs if key != "stem.0.weight" and key[:2] != "fc")
    grey = torch.randn(2, 1, 8, 32, 32)
    first, second = source.stem[0](grey.expand(-1, 3, -1, -1, -1)), network.stem[0](grey.expand(-1, 2, -1, -1, -1))
    assert torch.allclose(second, first * 2 / 3, atol=1e-5)
    assert average_stem(torch.ones(5, 3, 1, 7, 7), 2).shape == (5, 2, 1, 7, 7)


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10", "r2d_10", "f_r2d_10"])
def test_a_flow_network_starts_from_rgb_weights(name: str) -> None:
    """Two equal channels of flow give what two thirds of the same gray picture give, in every later layer too."""
    rgb, flow = small(name).eval(), small(name, seed=1, input_channels=2).eval()
    load_pretrained(rgb, flow, [0, 1, 2])
    gray = torch.randn(2, 1, 8, 32, 32)
    with torch.no_grad():
        actual, expected = flow(gray.repeat(1, 2, 1, 1, 1)), rgb(gray.repeat(1, 3, 1, 1, 1) * 2 / 3)
    assert torch.allclose(actual, expected, atol=1e-5)
    assert not torch.allclose(actual[0], actual[1], atol=1e-3)


@pytest.mark.parametrize("name", ["r2plus1d_10", "mc3_10", "f_r2d_10"])
def test_weights_do_not_depend_on_the_length_of_clips(name: str) -> None:
    source, network = small(name), small(name, seed=1, clip_length=32)
    load_pretrained(source, network, [0, 1, 2])
    clips = torch.randn(1, 3, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(network.eval()(clips), source.eval()(clips))


def test_r2d_keeps_its_length_and_says_why() -> None:
    with pytest.raises(
        ValueError, match=r"r2d_10 for clips of 8 frames cannot be used with 32: it takes the frames as"
    ):
        load_pretrained(small("r2d_10"), small("r2d_10", clip_length=32), None)


def test_frozen_stages_neither_learn_nor_count() -> None:
    network = small()
    freeze(network, 3)
    train_mode(network)
    frozen = [network.stem, network.layer1, network.layer2]
    before = [{name: tensor.clone() for name, tensor in part.state_dict().items()} for part in frozen]
    network(torch.randn(2, 3, 8, 32, 32)).sum().backward()
    for part, state in zip(frozen, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in part.state_dict().items())
        assert all(parameter.grad is None for parameter in part.parameters())
    assert all(parameter.grad is not None for parameter in network.layer3.parameters())
    modes = {module.training for module in network.modules() if isinstance(module, nn.BatchNorm3d)}
    assert modes == {True, False}
    assert network.training
    free = small()
    train_mode(free)
    assert all(module.training for module in free.modules())
