"""The command line of a training of the studio: from its options, and the options of one that was stored in job.json.

Data and run folder follow from the project. A stored command may be somebody else's, so of it only known options count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from muybridge.studio.model_address import RUNS_FOLDER

# Fields of a request -> options of `muybridge train`.
OPTIONS = {
    "model": "--model",
    "recipe": "--recipe",
    "epochs": "--training.epochs",
    "learning_rate": "--training.learning_rate",
    "batch_size": "--training.batch_size",
    "clips_per_epoch": "--training.clips_per_epoch",
    "frozen_stages": "--training.frozen_stages",
    "width": "--network.width",
    "clip_length": "--clips.length",
    "frame_stride": "--clips.stride",
    "frames_per_second": "--clips.frames_per_second",
    "crop": "--clips.crop",
    "workers": "--loading.workers",
}
INIT, SCALE, MIRROR, BACKGROUND = "--init", "--clips.scale", "--clips.mirror", "--background"
_STORED = {*OPTIONS.values(), INIT, SCALE, MIRROR, BACKGROUND, "--data", "--output"}
_CHECKPOINT = re.compile(r"step-\d+")


def build_train_arguments(project_folder: Path, run: str, options: Mapping[str, str]) -> list[str]:
    """The arguments after `python -m`: they train the run of this name in a project, or go on with it."""
    places = {"--data": str(project_folder / "annotations.csv"), "--output": str(project_folder / RUNS_FOLDER / run)}
    others = {name: value for name, value in options.items() if name not in places}
    return ["muybridge", "train", *chain(*places.items()), "--resume", *chain(*others.items())]


def read_train_options(arguments: Sequence[str]) -> dict[str, str]:
    """The options after `muybridge train`, each with its value. Raises ValueError for one that the studio never gives."""
    options = {}
    rest = iter(arguments)
    for name in rest:
        if name == "--resume":
            continue
        value = next(rest, "")
        if name not in _STORED or not value or value.startswith("-"):
            raise ValueError(f"command has {name!r} {value!r}, which is no option of the studio's trainings")
        options[name] = value
    return options


def has_checkpoint(run_folder: Path) -> bool:
    """Whether a run has begun: then its weights and settings are its own, and it is not started from others."""
    return any(_CHECKPOINT.fullmatch(path.name) for path in (run_folder / "checkpoints").glob("step-*"))
