"""The optimizer: SGD or AdamW, weight decay and learning-rate factors (paper section 4.1; the rest from the authors' code)."""

from __future__ import annotations

import torch
from torch import nn

from muybridge.models.network import PARTS
from muybridge.training_settings import TrainingSettings


def build_optimizer(network: nn.Module, training: TrainingSettings) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW, over the parameters that are not frozen.

    Weight decay applies to convolution and classifier weights and to batch-norm scales, not to biases, as in the authors' code
    (Caffe2's AddWeightDecay goes over `model.weights`, which include the scales). There is a parameter group for each
    learning-rate factor, with and without decay.
    """
    groups = []
    for factor in dict.fromkeys(training.rate_factors):
        trained = [
            (name, parameter)
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and _find_rate_factor(name, training) == factor
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


def _find_rate_factor(parameter_name: str, training: TrainingSettings) -> float:
    """The learning-rate factor of a parameter; that of the classifier for parameters outside the stages."""
    part = next((part for part in PARTS if parameter_name.startswith(f"{part}.")), PARTS[-1])
    return training.rate_factors[PARTS.index(part)]


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Sets the learning rate of every parameter group, times the factor of the group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate_factor"]
