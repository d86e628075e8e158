"""The optimiser: which parameters decay, and by which rule they move (paper section 4.1, authors' code for the rest)."""

from __future__ import annotations

import torch
from torch import nn

from muybridge.settings import TrainingSettings


def build_optimizer(network: nn.Module, training: TrainingSettings) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW, over the parameters that take part in training.

    Weight decay is on convolution and classifier weights and on batch-norm scales, not on biases, as in the authors' code
    (Caffe2's AddWeightDecay goes over `model.weights`, which hold the scales; paper.md 3.2).
    """
    trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for name, parameter in trained if not name.endswith("bias")],
            "weight_decay": training.weight_decay,
        },
        {"params": [parameter for name, parameter in trained if name.endswith("bias")], "weight_decay": 0.0},
    ]
    match training.optimizer:
        case "sgd":
            nesterov = training.momentum > 0
            return torch.optim.SGD(groups, lr=training.learning_rate, momentum=training.momentum, nesterov=nesterov)
        case "adamw":
            return torch.optim.AdamW(groups, lr=training.learning_rate)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The same learning rate for every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
