"""`Head`: what the outputs of a network mean where they are not the logits of classes that exclude each other.

Input: outputs of the last layer, float64 (N, outputs). Output: values that people read, by the inverse of the link:

    multi_label   sigmoid             the probability of each class by itself
    regression    identity            a number in the unit of the target: output * target_std + target_mean
    ordinal       cumulative_sigmoid  P(level > k) for each level k but the highest, made to decrease by a running minimum

Ordinal regression by cumulative logits follows McCullagh 1980, with an output of its own for each boundary as in Niu et al.,
CVPR 2016. A network of task single_label has no `Head`. Pure NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from muybridge.bounds import Deviation, Share, Statistic, check_fields
from muybridge.records import Task
from muybridge.text import format_count

Link = Literal["sigmoid", "identity", "cumulative_sigmoid"]

LINKS: Mapping[Task, Link] = MappingProxyType(
    {"multi_label": "sigmoid", "regression": "identity", "ordinal": "cumulative_sigmoid"}
)
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Head:
    """The meaning of a network's outputs, in their order. What does not apply to a task is None."""

    task: Task
    outputs: tuple[str, ...]
    """Names: classes (multi_label), targets (regression), or boundaries between levels (ordinal)."""
    link: Link
    units: tuple[str, ...] | None = None
    """Of each target of a regression, "" where it has none."""
    target_mean: tuple[Statistic, ...] | None = None
    """Mean of each target over the training videos."""
    target_std: tuple[Deviation, ...] | None = None
    """Standard deviation of each target over the training videos."""
    thresholds: tuple[Share, ...] | None = None
    """Probability from which a video has a class (multi_label), chosen on validation; None: 0.5 for each."""

    def __post_init__(self) -> None:
        check_fields(self, "head.")
        if self.task not in LINKS or self.link != LINKS[self.task]:
            expected = ", ".join(f"{link} for {task}" for task, link in LINKS.items())
            raise ValueError(f"head.link is {self.link} for the task {self.task}, expected {expected}")
        if not self.outputs or not all(name.strip() for name in self.outputs):
            raise ValueError("head.outputs must name each output of the network")
        is_regression = self.task == "regression"
        for name in ("units", "target_mean", "target_std", "thresholds"):
            values = getattr(self, name)
            applies = is_regression == (name != "thresholds") and self.task != "ordinal"
            if values is not None and (not applies or len(values) != len(self.outputs)):
                raise ValueError(
                    f"head.{name} has {format_count(len(values), 'value')} for "
                    f"{format_count(len(self.outputs), 'output')} of the task {self.task}"
                )
        if is_regression and (self.target_mean is None or self.target_std is None):
            raise ValueError("the head of a regression needs target_mean and target_std")

    @property
    def resolved_thresholds(self) -> tuple[float, ...]:
        """The threshold of each output of multi_label."""
        return self.thresholds or (DEFAULT_THRESHOLD,) * len(self.outputs)

    @property
    def known_target_mean(self) -> tuple[float, ...] | None:
        """Of the training videos; None where an imported head of a regression outputs the numbers as they are."""
        is_relative = any(self.target_mean or ()) or any(std != 1 for std in self.target_std or ())
        return self.target_mean if is_relative else None

    def get_unit(self, index: int) -> str:
        """The unit of an output, "" where it has none."""
        return self.units[index] if self.units else ""

    def invert_link(self, outputs_nd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Outputs (N, D) as values (N, D): probabilities, numbers in the unit of the target, or P(level > k)."""
        match self.link:
            case "sigmoid":
                return _sigmoid(outputs_nd)
            case "identity":
                return np.asarray(outputs_nd * np.array(self.target_std) + np.array(self.target_mean))
            case "cumulative_sigmoid":
                return np.minimum.accumulate(_sigmoid(outputs_nd), axis=-1)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def make_ordinal_outputs(levels: Sequence[str]) -> tuple[str, ...]:
    """The names of the boundaries between levels: `above mild`."""
    return tuple(f"above {level}" for level in levels[:-1])


def compute_level_probabilities(values_nd: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(level = k) (N, K) from P(level > k) (N, K - 1), which decreases with k."""
    padded = np.pad(values_nd, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    return padded[:, :-1] - padded[:, 1:]


def recover_boundaries(probabilities_nk: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(level > k) (N, K - 1) from P(level = k) (N, K): the sum of the probabilities of the levels above k."""
    return np.asarray(np.cumsum(probabilities_nk[:, ::-1], axis=1)[:, -2::-1])


def choose_levels(values_nd: NDArray[np.float64]) -> NDArray[np.int64]:
    """The median level (N,) of each row of P(level > k) (N, K - 1); it minimizes the expected distance in levels."""
    return np.asarray(np.count_nonzero(values_nd > 0.5, axis=1), np.int64)


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))
