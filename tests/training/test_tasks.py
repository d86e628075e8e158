"""Losses of the tasks against their formulas, heads, and classes that differ in number."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from muybridge.datasets.manifest import Manifest
from muybridge.loading.datasets import TrainingBatch
from muybridge.models.heads import Head
from muybridge.training.tasks import (
    TaskLoss,
    compute_class_weights,
    describe_imbalance,
    make_head,
    make_task_loss,
)
from muybridge.training_settings import TrainingSettings

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]])


def batch(labels: list[int] | None = None, targets: list[list[float]] | None = None) -> TrainingBatch:
    return TrainingBatch(
        None, torch.tensor(labels or [0, 0]), ("a", "b"), 0, (), torch.tensor(targets or [[0.0], [0.0]])
    )


def loss(
    settings: TrainingSettings, head: Head | None, weights: Tensor | None, one: TrainingBatch, logits: Tensor
) -> float:
    return float(TaskLoss(settings, head, weights)(logits, one))


def labeled(*counts: int, split: str = "train") -> Manifest:
    rows = [
        {"video": f"{label}-{index}", "labels": [label], "split": split}
        for label, count in enumerate(counts)
        for index in range(count)
    ]
    return Manifest.from_rows(rows, classes=[f"class{label}" for label in range(len(counts))], root="data")


def test_single_label_is_the_cross_entropy() -> None:
    one = batch([0, 2])
    expected = functional.cross_entropy(LOGITS, one.labels_n, reduction="sum", label_smoothing=0.1)
    assert loss(TrainingSettings(label_smoothing=0.1), None, None, one, LOGITS) == float(expected)
    probabilities = LOGITS.softmax(1)
    weights = torch.tensor([1.0, 2.0, 3.0])
    by_hand = sum(
        w * (1 - p) ** 2 * -math.log(p)
        for w, p in ((1.0, float(probabilities[0, 0])), (3.0, float(probabilities[1, 2])))
    )
    assert loss(TrainingSettings(focal_gamma=2.0), None, weights, one, LOGITS) == pytest.approx(by_hand, rel=1e-5)


def test_multi_label_is_binary_for_each_class() -> None:
    one = batch(targets=[[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    probabilities = LOGITS.sigmoid().tolist()
    pairs = zip(probabilities, one.targets_nd.tolist(), strict=True)
    right = [[p if t else 1 - p for p, t in zip(*row, strict=True)] for row in pairs]
    settings = TrainingSettings(task="multi_label")
    assert loss(settings, None, None, one, LOGITS) == pytest.approx(
        sum(sum(-math.log(p) for p in row) / 3 for row in right), rel=1e-5
    )
    focal = sum(sum((1 - p) ** 1.5 * -math.log(p) for p in row) / 3 for row in right)
    assert loss(replace(settings, focal_gamma=1.5), None, None, one, LOGITS) == pytest.approx(focal, rel=1e-5)
    weighted = sum(
        sum((4 if t else 1) * -math.log(p) for p, t in zip(row, targets, strict=True)) / 3
        for row, targets in zip(right, one.targets_nd.tolist(), strict=True)
    )
    assert loss(settings, None, torch.full((3,), 4.0), one, LOGITS) == pytest.approx(weighted, rel=1e-5)


def test_regression_is_the_error_in_deviations_of_the_target() -> None:
    head = Head("regression", ("a", "b"), "identity", None, (10.0, 0.0), (2.0, 1.0))
    outputs = torch.tensor([[1.0, 0.5], [0.0, 3.0]], requires_grad=True)
    one = batch(targets=[[14.0, 0.0], [8.0, math.nan]])  # (2, 0) and (-1, unknown)
    settings = TrainingSettings(task="regression")
    value = TaskLoss(settings, head, None)(outputs, one)
    assert float(value.detach()) == pytest.approx((1 + 0.25) / 2 + 1)
    value.backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert float(outputs.grad[1, 1]) == 0


def test_ordinal_is_binary_at_each_boundary() -> None:
    logits, one = torch.tensor([[1.0, -1.0], [2.0, 0.5]]), batch(targets=[[1.0], [2.0]])
    above = [[1, 0], [1, 1]]
    expected = sum(
        sum(-math.log(p if t else 1 - p) for p, t in zip(row, known, strict=True)) / 2
        for row, known in zip(logits.sigmoid().tolist(), above, strict=True)
    )
    assert loss(TrainingSettings(task="ordinal"), None, None, one, logits) == pytest.approx(expected, rel=1e-5)


def test_weights_of_classes() -> None:
    train = labeled(6, 2, 0)
    settings = TrainingSettings(class_weights="balanced")
    assert compute_class_weights(settings, train).tolist() == pytest.approx([8 / 12, 8 / 4, 1])
    labels = compute_class_weights(replace(settings, task="multi_label"), train)
    assert labels.tolist() == pytest.approx([2 / 6, 6 / 2, 1])
    assert make_task_loss(TrainingSettings(), None, train).class_weights is None


def test_uneven_classes_are_named() -> None:
    assert describe_imbalance(TrainingSettings(), labeled(10, 2)) == []
    (note,) = describe_imbalance(TrainingSettings(), labeled(11, 2))
    assert "11 training videos of class0, 2 of class1; consider --training.class_weights balanced" in note
    (note,) = describe_imbalance(TrainingSettings(draws="balanced"), labeled(11, 2))
    assert note.endswith("training.draws balanced make up for it")


def test_heads_of_data() -> None:
    data = labeled(2, 2)
    assert make_head(TrainingSettings(), data) is None
    head = make_head(TrainingSettings(task="ordinal"), data)
    assert head is not None
    assert head.outputs == ("above class0",)
    with pytest.raises(ValueError, match=r"training.class_weights is for single_label, multi_label, ordinal, not"):
        TrainingSettings(task="regression", class_weights="balanced")
    with pytest.raises(ValueError, match=r"training.label_smoothing is for single_label"):
        TrainingSettings(task="multi_label", label_smoothing=0.1)
