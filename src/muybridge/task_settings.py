"""The settings of training that decide what a network predicts and how its loss weighs classes (docs/tasks.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from annotated_types import Interval

from muybridge.records import Task
from muybridge.text import join_names

_WITH_CLASSES: tuple[Task, ...] = ("single_label", "multi_label", "ordinal")
_TASKS_BY_SETTING: Mapping[str, tuple[Task, ...]] = MappingProxyType(
    {
        "label_smoothing": ("single_label",),
        "levels": ("ordinal",),
        "units": ("regression",),
        "class_weights": _WITH_CLASSES,
        "draws": _WITH_CLASSES,
        "focal_gamma": _WITH_CLASSES,
    }
)


@dataclass(frozen=True)
class TaskSettings:
    """Task and loss; part of `training_settings.TrainingSettings`, which checks their values."""

    label_smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the target spread over all classes; none in the paper (Szegedy et al., 2016)."""
    task: Task = "single_label"
    """What the network predicts: one class, several or none of the classes (multi_label), numbers (regression), or levels that
    have an order (ordinal). docs/tasks.md"""
    levels: tuple[str, ...] = ()
    """With task ordinal: the labels from the lowest to the highest; not needed where they are numbers."""
    units: tuple[str, ...] = ()
    """With task regression: the unit of each target, such as %, for reports."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced weighs the loss of each class by the inverse of its number of training videos."""
    draws: Literal["uniform", "balanced"] = "uniform"
    """uniform draws every training video equally often, balanced every class."""
    focal_gamma: Annotated[float, Interval(ge=0, le=10)] = 0.0
    """Exponent of focal loss, which lowers the weight of clips that are right already; 0 is cross-entropy, 2 is usual."""

    def check_task(self) -> None:
        """Raise ValueError for settings that are not of the task."""
        for name, tasks in _TASKS_BY_SETTING.items():
            default = getattr(TaskSettings, name)
            if getattr(self, name) != default and self.task not in tasks:
                remedy = "leave it out" if default == () else f"set it to {default}"  # a recipe may have set it
                raise ValueError(
                    f"training.{name} is for {join_names(tasks)}, not for training.task {self.task}; {remedy}"
                )
