"""The optimiser: which parameters decay, and by which rule they move (paper section 4.1, authors' code for the rest)."""

from __future__ import annotations

import torch
from torch import nn

from muybridge.models.network import PARTS
from muybridge.settings import TrainingSettings


def build_optimizer(network: nn.Module, training: TrainingSettings) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW, over the parameters that take part in training.

    Weight decay is on convolution and classifier weights and on batch-norm scales, not on biases, as in the authors' code
    (Caffe2's AddWeightDecay goes over `model.weights`, which hold the scales). Parts of the network with
    another factor of the rate are groups of their own.
    """
    groups = []
    for factor in dict.fromkeys(training.rate_factors):
        trained = [
            (name, parameter)
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and find_rate_factor(name, training) == factor
        ]
        for decay, is_bias in ((training.weight_decay, False), (0.0, True)):
            parameters = [parameter for name, parameter in trained if name.endswith("bias") == is_bias]
            if parameters:
                groups.append({"params": parameters, "weight_decay": decay, "rate_factor": factor})
    match training.optimizer:
        case "sgd":
            nesterov = training.momentum > 0
            return torch.optim.SGD(groups, lr=training.learning_rate, momentum=training.momentum, nesterov=nesterov)
        case "adamw":
            return torch.optim.AdamW(groups, lr=training.learning_rate)


def find_rate_factor(parameter_name: str, training: TrainingSettings) -> float:
    """What the rate of a parameter is multiplied by; that of the classifier for what is no stage of the network."""
    part = next((part for part in PARTS if parameter_name.startswith(f"{part}.")), PARTS[-1])
    return training.rate_factors[PARTS.index(part)]


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The learning rate of a step, times each group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate_factor"]
