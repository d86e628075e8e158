"""Training from Python: `muybridge.train` runs to the end, `muybridge.iterate_training` yields what happens.

Input: a data address, the name of a network and any setting of `muybridge train`. Output: a `TrainedRun`,
whose folder is the same as the command line's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypedDict, Unpack

from muybridge.evaluation.metrics import Accuracy
from muybridge.records import Modality, TimeOrigin
from muybridge.settings import (
    CheckpointSettings,
    ClipSettings,
    EvaluationSettings,
    FoldUnit,
    LoadingSettings,
    NetworkSettings,
    RecipeName,
    TimeoutSettings,
    TrainSettings,
)
from muybridge.training import train as training
from muybridge.training.events import TrainingEvent
from muybridge.training.given_settings import GivenSettings
from muybridge.training_settings import TrainingSettings

_GROUPS: dict[str, type[Any]] = {
    "network": NetworkSettings,
    "clips": ClipSettings,
    "training": TrainingSettings,
    "evaluation": EvaluationSettings,
    "loading": LoadingSettings,
    "checkpoints": CheckpointSettings,
    "timeouts": TimeoutSettings,
}


class TrainOptions(TypedDict, total=False):
    """The settings of a run besides data and model (`TrainSettings`). A group is a dict of its fields, or its dataclass.

    A dataclass does not tell what was given: of it, what differs from the default counts. A dict gives defaults too.
    """

    output: str | os.PathLike[str]
    init: str | os.PathLike[str] | None
    recipe: RecipeName
    modality: Modality
    fold: int | None
    num_folds: int | None
    fold_by: FoldUnit
    columns: str | None
    source_fps: float | None
    time_origin: TimeOrigin | None
    background: bool
    validation: str
    device: str
    seed: int
    network: NetworkSettings | Mapping[str, Any]
    clips: ClipSettings | Mapping[str, Any]
    training: TrainingSettings | Mapping[str, Any]
    evaluation: EvaluationSettings | Mapping[str, Any]
    loading: LoadingSettings | Mapping[str, Any]
    checkpoints: CheckpointSettings | Mapping[str, Any]
    timeouts: TimeoutSettings | Mapping[str, Any]


@dataclass(frozen=True)
class TrainedRun:
    """A run that is done. It is a path: `muybridge.load(run)` loads its best weights."""

    folder: Path
    num_steps: int
    num_failed_clips: int
    validation_accuracy: Accuracy | None

    def __fspath__(self) -> str:
        return str(self.folder)


def train(
    data: str | os.PathLike[str],
    model: str | None = None,
    *,
    resume: bool = False,
    **options: Unpack[TrainOptions],
) -> TrainedRun:
    """Train a network and return its run; progress is printed on standard error.

    Options are those of `muybridge train`: `train("my_videos", "r2plus1d_18", output="runs/first", training={"epochs": 10})`.
    With `init`, network, preprocessing and recipe are set to suit the weights unless options say otherwise; without it, `model`
    is r2plus1d_18 by default. Of a group that is given as its dataclass, such as `training=TrainingSettings(epochs=10)`, fields
    that have their default value count as not given; a dict gives those too. `resume` continues the run in `output` with its
    own settings. Raises TypeError for an option that does not exist, ValueError where settings fit neither data nor machine nor
    folder, and `StopRequested` after a signal, once the run is saved.
    """
    result, settings = training.train_given(_collect_given(data, model, options), resume=resume)
    return TrainedRun(
        Path(settings.output), result.train_state.step, result.train_state.num_failed, result.validation_accuracy
    )


def iterate_training(
    data: str | os.PathLike[str],
    model: str | None = None,
    *,
    resume: bool = False,
    **options: Unpack[TrainOptions],
) -> Iterator[TrainingEvent]:
    """As `train`, but an iterator of what happens: `StepDone` after each step, `ValidationDone` after each validation.

    The run goes on while the iterator is advanced. Leaving it early saves a checkpoint, from which `resume` continues.
    """
    return training.iterate_events(_collect_given(data, model, options), resume=resume)


def _collect_given(data: str | os.PathLike[str], model: str | None, options: TrainOptions) -> GivenSettings:
    if not isinstance(data, str | os.PathLike):
        raise TypeError(f"data is the path of a folder or a list of videos, not {type(data).__name__}")
    if not isinstance(model, str | None):
        raise TypeError(f"model is a name such as r2plus1d_18, not {type(model).__name__}; `muybridge.list_models()`")
    known = [field.name for field in fields(TrainSettings)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"train has no option {unknown[0]!r}; the options are {', '.join(known)}")
    values: dict[str, Any] = {name: _convert_option(name, value) for name, value in options.items()}
    return GivenSettings({"data": os.fspath(data), **({"model": model} if model else {}), **values})


def _convert_option(name: str, value: Any) -> Any:
    group = _GROUPS.get(name)
    if group is None:
        return os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(value, group):
        default = group()
        return {name: given for name, given in vars(value).items() if given != getattr(default, name)}
    names = [field.name for field in fields(group)]
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a {group.__name__} or a dict of its fields, not {type(value).__name__}")
    unknown = sorted(set(value) - set(names))
    if unknown:
        raise TypeError(f"{name} has no setting {unknown[0]!r}; the settings are {', '.join(names)}")
    return dict(value)
