"""Which parameters decay, and that a step is the published rule."""

import pytest
import torch
from torch import nn

from muybridge.models.network import create_model
from muybridge.training.optimizer import build_optimizer, set_learning_rate
from muybridge.training_settings import TrainingSettings


def test_biases_do_not_decay_and_everything_else_does() -> None:
    network = create_model("r2plus1d_10", width=4, num_classes=3)
    decaying, still = build_optimizer(network, TrainingSettings()).param_groups
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert decaying["weight_decay"] == 1e-4
    assert still["weight_decay"] == 0
    assert all(names[id(parameter)].endswith("weight") for parameter in decaying["params"])
    assert all(names[id(parameter)].endswith("bias") for parameter in still["params"])
    assert any("stem.1" in names[id(parameter)] for parameter in decaying["params"])  # batch-norm scales decay
    assert len(decaying["params"]) + len(still["params"]) == len(list(network.parameters()))


def test_sgd_is_nesterov_with_decay_added_to_the_gradient() -> None:
    layer = nn.Linear(1, 1, bias=False)
    weight, gradient, rate, momentum, decay = 2.0, 0.5, 0.1, 0.9, 1e-4
    with torch.no_grad():
        layer.weight.fill_(weight)
    optimizer = build_optimizer(layer, TrainingSettings(momentum=momentum, weight_decay=decay))
    set_learning_rate(optimizer, rate)
    velocity = 0.0
    for _ in range(3):
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        optimizer.step()
        total = gradient + decay * weight
        velocity = momentum * velocity + total
        weight -= rate * (total + momentum * velocity)
        assert layer.weight.item() == pytest.approx(weight, rel=1e-6)


def test_adamw_is_the_other_choice() -> None:
    assert isinstance(build_optimizer(nn.Linear(2, 2), TrainingSettings(optimizer="adamw")), torch.optim.AdamW)


def test_every_part_of_the_network_has_a_rate_of_its_own() -> None:
    network = create_model("r2plus1d_10", width=4, num_classes=3)
    factors = (0.0, 0.1, 0.2, 0.1, 1.0, 10.0)
    optimizer = build_optimizer(network, TrainingSettings(rate_factors=factors))
    set_learning_rate(optimizer, 0.5)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    decays = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    parts = ("stem.", "layer1.", "layer2.", "layer3.", "layer4.", "fc.")
    for name, parameter in network.named_parameters():
        (factor,) = [factor for part, factor in zip(parts, factors, strict=True) if name.startswith(part)]
        assert rates[id(parameter)] == pytest.approx(0.5 * factor)
        assert decays[id(parameter)] == (0 if name.endswith("bias") else 1e-4)
    assert len(rates) == sum(len(group["params"]) for group in optimizer.param_groups)
