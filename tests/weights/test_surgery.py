import pytest
import torch

from muybridge.models.network import VideoResNet, create_model
from muybridge.weights.surgery import flow_stem, take_over


def network(model: str = "r2plus1d_10", channels: int = 3, seed: int = 0) -> VideoResNet:
    torch.manual_seed(seed)
    return create_model(model, num_classes=3, width=4, clip_length=4, input_channels=channels).eval()


@pytest.mark.parametrize("model", ["r2plus1d_10", "r3d_10", "r2d_10", "f_r2d_10"])
def test_a_flow_network_starts_from_rgb_weights(model: str) -> None:
    """Two equal channels of flow give what two thirds of the same gray picture give, in every later layer too."""
    rgb, flow = network(model), network(model, channels=2, seed=1)
    take_over(rgb, flow, class_order=[0, 1, 2])
    gray = torch.randn(2, 1, 4, 32, 32)
    with torch.no_grad():
        found, expected = flow(gray.repeat(1, 2, 1, 1, 1)), rgb(gray.repeat(1, 3, 1, 1, 1) * 2 / 3)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_the_stem_is_the_mean_over_colours() -> None:
    given = network().state_dict()
    found = flow_stem(given)
    assert found["stem.0.weight"].shape[1] == 2
    for channel in (0, 1):
        expected = (given["stem.0.weight"][:, 0] + given["stem.0.weight"][:, 1] + given["stem.0.weight"][:, 2]) / 3
        assert torch.allclose(found["stem.0.weight"][:, channel], expected)
    assert all(torch.equal(found[name], given[name]) for name in given if name != "stem.0.weight")


def test_flow_weights_do_not_become_rgb() -> None:
    with pytest.raises(ValueError, match=r"stem.0.weight \(\d+, 2, 1, 7, 7\), expected \(\d+, 3, 1, 7, 7\)"):
        take_over(network(channels=2), network(), None)
