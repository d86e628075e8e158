import copy
import json
from pathlib import Path

import pytest
import torch

from muybridge.models.cost import cost
from muybridge.models.family import FAMILIES, build_specification
from muybridge.models.network import VideoResNet, create_model

COSTS = json.loads((Path(__file__).parent / "costs.json").read_text())
ROWS = [(depth, family) for depth in (18, 34) for family in FAMILIES]


def on_meta(name, **changes):
    with torch.device("meta"):
        return create_model(name, **changes)


def test_every_row_is_there():
    assert len(ROWS) == 24
    assert set(COSTS["depth_18"]) == set(COSTS["depth_34"]) == {*FAMILIES, "r2d_16_frames"}


@pytest.mark.parametrize(("depth", "family"), ROWS)
def test_parameters_to_the_last_digit_and_multiply_adds_to_three_decimals(depth, family):
    row = COSTS[f"depth_{depth}"][family]
    eight = cost(on_meta(f"{family}_{depth}", clip_length=8), (3, 8, 112, 112))
    sixteen = cost(on_meta(f"{family}_{depth}", clip_length=16), (3, 16, 112, 112))
    assert eight.parameters == row["parameters"]
    assert eight.weights == row["weights"]
    assert f"{eight.multiply_adds / 1e9:.3f}" == f"{row['gmacs_8_frames']:.3f}"
    assert f"{sixteen.multiply_adds / 1e9:.3f}" == f"{row['gmacs_16_frames']:.3f}"
    longer = COSTS[f"depth_{depth}"]["r2d_16_frames"] if family == "r2d" else row
    assert (sixteen.parameters, sixteen.weights) == (longer["parameters"], longer["weights"])


def test_r2plus1d_152():
    """118.0M and 329.1G are printed in the authors' model zoo; the digits are computed."""
    net = on_meta("r2plus1d_152")
    small, large = cost(net, (3, 32, 112, 112)), cost(net, (3, 32, 128, 128))
    assert small.weights == large.weights == 118_021_015
    assert f"{small.multiply_adds / 1e9:.3f}" == "251.997"
    assert f"{large.multiply_adds / 1e9:.3f}" == "329.139"


def test_r2plus1d_costs_in_proportion_to_length():
    net = on_meta("r2plus1d_18")
    gmacs = [cost(net, (3, length, 112, 112)).multiply_adds / 1e9 for length in (8, 16, 24, 32, 40, 48)]
    assert [f"{value:.2f}" for value in gmacs] == ["20.75", "41.50", "62.24", "82.99", "103.74", "124.49"]
    fc = 512 * 400
    convolutions = [cost(net, (3, length, 112, 112)).multiply_adds - fc for length in (8, 24, 48)]
    assert convolutions == [convolutions[0], 3 * convolutions[0], 6 * convolutions[0]]
    assert f"{cost(on_meta('r2plus1d_34'), (3, 32, 112, 112)).multiply_adds / 1e9:.2f}" == "152.36"


def test_flow_and_other_classes():
    assert cost(on_meta("r2plus1d_34", input_channels=2), (2, 8, 112, 112)).parameters == 63_694_970
    for classes, parameters in ((101, 63_543_788), (51, 63_518_138), (487, 63_741_806)):
        assert cost(on_meta("r2plus1d_34", num_classes=classes), (3, 8, 112, 112)).parameters == parameters


def test_other_mid_channels():
    """31,505,325 is torchvision's published num_params of r2plus1d_18; 83 is what M_i would give the stem."""
    assert cost(on_meta("r2plus1d_18", mid_channel_rule="per_block"), (3, 16, 112, 112)).parameters == 31_505_325
    with torch.device("meta"):
        net = VideoResNet(build_specification("r2plus1d_18", stem_mid_channels=83))
    assert cost(net, (3, 16, 112, 112)).parameters == 33_383_797


def test_layers_are_listed_with_their_sizes():
    counted = cost(on_meta("r2plus1d_18"), (3, 16, 112, 112))
    layers = {layer.name: layer for layer in counted.layers}
    assert len(layers) == len(counted.layers) == 2 + 16 * 2 + 3 + 1  # stem, two halves of 16, shortcuts, classifier
    stem = layers["stem.0"]
    assert (stem.kind, stem.kernel, stem.stride) == ("convolution", (1, 7, 7), (1, 2, 2))
    assert stem.output_cthw == (45, 16, 56, 56)
    assert stem.parameters == stem.weights == 45 * 3 * 49
    assert stem.multiply_adds == 45 * 3 * 49 * 16 * 56 * 56
    shortcut = layers["layer3.0.downsample.0"]
    assert (shortcut.kernel, shortcut.stride) == ((1, 1, 1), (2, 2, 2))
    assert shortcut.output_cthw == (256, 4, 14, 14)
    classifier = layers["fc"]
    assert (classifier.kind, classifier.output_cthw) == ("linear", (400, 1, 1, 1))
    assert (classifier.weights, classifier.parameters) == (512 * 400, 512 * 400 + 400)
    assert classifier.multiply_adds == 512 * 400
    assert counted.layers[0].name == "stem.0"
    assert counted.layers[-1].name == "fc"


def test_counting_leaves_the_network_alone():
    net = create_model("r2plus1d_10", width=4, num_classes=3).train()
    net.fc.weight.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    in_training = cost(net, (3, 8, 16, 16))  # its last map is one pixel, which batch norm refuses while training
    assert net.training
    assert all(module.training for module in net.modules())
    after = net.state_dict()
    assert all(torch.equal(before[key], after[key]) and after[key].device.type == "cpu" for key in before)
    assert not any(module._forward_hooks for module in net.modules())
    assert [p.requires_grad for p in net.parameters()].count(False) == 1
    net.eval()
    assert cost(net, (3, 8, 16, 16)) == in_training
    assert not net.training


def test_counting_is_of_the_network_at_hand():
    net = create_model("r3d_10", width=4, num_classes=3)
    net.fc = torch.nn.Linear(32, 11)
    assert cost(net, (3, 8, 32, 32)).parameters == sum(parameter.numel() for parameter in net.parameters())
    assert cost(net.double(), (3, 8, 32, 32)).layers[-1].output_cthw == (11, 1, 1, 1)


@pytest.mark.parametrize("size", [(3, 8, 112), (3, 0, 112, 112), (2, 8, 112, 112)])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(ValueError, match="clip"):
        cost(on_meta("r3d_18"), size)
