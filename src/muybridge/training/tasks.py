"""Tasks: the loss of each, its head, and how much classes differ in number.

Input: outputs of the network (N, D) and the targets of a batch. Output: the sum of the losses of its clips, since a step
divides once by the clips of all ranks (`step`). A target that is NaN has no loss.

    single_label   softmax cross-entropy
    multi_label    binary cross-entropy, a mean over classes
    regression     squared error of targets of mean 0 and deviation 1, a mean over targets
    ordinal        binary cross-entropy of the boundaries between levels, a mean over them (Niu et al., CVPR 2016)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from muybridge.datasets.manifest import Manifest
from muybridge.loading.datasets import TrainingBatch
from muybridge.models.heads import LINKS, Head, make_ordinal_outputs
from muybridge.text import format_count
from muybridge.training_settings import TrainingSettings

MAX_CLASS_RATIO = 5.0  # between the largest and the smallest class, from which a note warns
MAX_POSITIVE_WEIGHT = 100.0  # of a rare class of multi_label, and its inverse; more lets single clips decide a step


def make_head(training: TrainingSettings, data: Manifest) -> Head | None:
    """The head of a task, with the statistics of the training videos; None for single_label.

    `data` is a whole data set that `prepare_for_task` has prepared. Raises ValueError where its targets are all the same.
    """
    task = training.task
    match task:
        case "multi_label":
            return Head(task, data.classes, LINKS[task])
        case "ordinal":
            return Head(task, make_ordinal_outputs(data.classes), LINKS[task])
        case "regression":
            return _make_regression_head(training, data)
        case _:
            return None


def _make_regression_head(training: TrainingSettings, data: Manifest) -> Head:
    names, train = data.target_names, data.select_split("train")
    if training.units and len(training.units) != len(names):
        raise ValueError(
            f"training.units names {format_count(len(training.units), 'unit')} for "
            f"{format_count(len(names), 'target')}, {', '.join(names)}; "
            "name one for each"
        )
    columns = {name: train.table[f"target_{name}"].to_numpy() for name in names}
    columns = {name: values[~np.isnan(values)] for name, values in columns.items()}
    constant = [name for name, values in columns.items() if len(np.unique(values)) < 2]
    if constant:
        raise ValueError(f"the training videos of {data.root} have fewer than two values of {', '.join(constant)}")
    return Head(
        "regression",
        names,
        LINKS["regression"],
        units=training.units or None,
        target_mean=tuple(float(values.mean()) for values in columns.values()),
        target_std=tuple(float(values.std()) for values in columns.values()),
    )


@dataclass(frozen=True)
class TaskLoss:
    """The loss of a run. `class_weights` (classes,) multiply it by class, or for multi_label where the class is there."""

    training: TrainingSettings
    head: Head | None
    class_weights: Tensor | None

    def __call__(self, outputs_nd: Tensor, batch: TrainingBatch) -> Tensor:
        """The sum of the losses of the clips of a batch, whose tensors are on the device of the outputs."""
        match self.training.task:
            case "single_label":
                return self._sum_single_label(outputs_nd, batch)
            case "multi_label":
                return self._sum_multi_label(outputs_nd, batch)
            case "regression":
                return self._sum_regression(outputs_nd, batch)
            case "ordinal":
                return self._sum_ordinal(outputs_nd, batch)

    def _sum_single_label(self, logits: Tensor, batch: TrainingBatch) -> Tensor:
        smoothing, gamma = self.training.label_smoothing, self.training.focal_gamma
        if self.class_weights is None and not gamma:
            return functional.cross_entropy(logits, batch.labels_n, label_smoothing=smoothing, reduction="sum")
        losses = functional.cross_entropy(logits, batch.labels_n, label_smoothing=smoothing, reduction="none")
        if gamma:  # Lin et al., ICCV 2017
            log_probability = functional.log_softmax(logits, 1).gather(1, batch.labels_n[:, None])[:, 0]
            losses = (1 - log_probability.exp()) ** gamma * losses
        if self.class_weights is not None:
            losses = losses * self.class_weights.to(losses.device)[batch.labels_n]
        return losses.sum()

    def _sum_multi_label(self, logits: Tensor, batch: TrainingBatch) -> Tensor:
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        losses = _binary_losses(logits, batch.targets_nd, self.training.focal_gamma)
        if weights is not None:
            losses = losses * torch.where(batch.targets_nd > 0, weights, torch.ones_like(weights))
        return losses.mean(1).sum()

    def _sum_regression(self, outputs: Tensor, batch: TrainingBatch) -> Tensor:
        assert self.head is not None, "a regression has a head"
        mean, std = (outputs.new_tensor(values) for values in (self.head.target_mean, self.head.target_std))
        targets = (batch.targets_nd - mean) / std
        is_known = ~targets.isnan()
        errors = torch.where(is_known, outputs - targets.nan_to_num(), 0.0)
        return (errors.square().sum(1) / is_known.sum(1).clamp(min=1)).sum()

    def _sum_ordinal(self, logits: Tensor, batch: TrainingBatch) -> Tensor:
        boundaries = torch.arange(logits.shape[1], device=logits.device)
        is_above = (batch.targets_nd > boundaries).float()
        losses = _binary_losses(logits, is_above, self.training.focal_gamma).mean(1)
        if self.class_weights is not None:
            losses = losses * self.class_weights.to(losses.device)[batch.targets_nd[:, 0].long()]
        return losses.sum()


def _binary_losses(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if gamma:  # 1 - p of the right answer is the sigmoid of the logit with the other sign
        losses = torch.sigmoid(logits * (1 - 2 * targets)) ** gamma * losses
    return losses


def make_task_loss(training: TrainingSettings, head: Head | None, train: Manifest) -> TaskLoss:
    """The loss of a run on these training videos."""
    weights = compute_class_weights(training, train) if training.class_weights == "balanced" else None
    return TaskLoss(training, head, weights)


def compute_class_weights(training: TrainingSettings, train: Manifest) -> Tensor:
    """The weight of each class, float32 (classes,).

    For classes that exclude each other N / (K * n), so that a video weighs 1 in the mean; for multi_label the number of videos
    without the class over those with it. A class without training videos weighs 1.
    """
    counts = _count_labels(train).astype(np.float64)
    total = float(counts.sum())
    with np.errstate(divide="ignore"):
        if training.task == "multi_label":
            weights = np.clip((len(train) - counts) / counts, 1 / MAX_POSITIVE_WEIGHT, MAX_POSITIVE_WEIGHT)
        else:
            weights = total / (np.count_nonzero(counts) * counts)
    return torch.from_numpy(np.where(counts > 0, weights, 1.0).astype(np.float32))


def _count_labels(train: Manifest) -> NDArray[np.int64]:
    labels = pc.list_flatten(train.table["labels"]).to_numpy()
    return np.bincount(labels, minlength=len(train.classes)).astype(np.int64)


def describe_imbalance(training: TrainingSettings, train: Manifest) -> list[str]:
    """A warning where the largest class has more than `MAX_CLASS_RATIO` times the videos of the smallest."""
    if training.task == "regression" or len(train.classes) < 2:
        return []
    counts = _count_labels(train)
    present = np.flatnonzero(counts)
    largest, smallest = int(counts.argmax()), int(present[counts[present].argmin()])
    if counts[largest] <= MAX_CLASS_RATIO * counts[smallest]:
        return []
    names = train.classes
    sentence = (
        f"classes are uneven: {format_count(int(counts[largest]), f'training {train.noun}')} of {names[largest]}, "
        f"{counts[smallest]} of {names[smallest]}"
    )
    used = [
        f"training.{name} {getattr(training, name)}"
        for name, default in (("class_weights", "none"), ("draws", "uniform"), ("focal_gamma", 0.0))
        if getattr(training, name) != default
    ]
    if used:
        return [f"{sentence}; {' and '.join(used)} make up for it"]
    return [
        f"{sentence}; consider --training.class_weights balanced, --training.draws balanced or --training.focal_gamma 2, "
        "and look at the accuracy of each class"
    ]
