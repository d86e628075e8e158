"""`muybridge train`: trains a network on a data set."""

from __future__ import annotations

from typing import Annotated

from muybridge.cli.options import ShownFirst
from muybridge.distributed.rank import current_rank
from muybridge.settings import TrainSettings
from muybridge.terminal import print_line

MAIN_OPTIONS = ShownFirst(
    (
        "data",
        "model",
        "output",
        "config",
        "init",
        "resume",
        "training.epochs",
        "training.learning_rate",
        "training.batch_size",
        "clips.length",
    )
)


def train(settings: Annotated[TrainSettings, MAIN_OPTIONS], *, resume: bool = False) -> int:
    """Trains a network. The defaults are the paper's recipe; every setting is an option and a key of a YAML file.

    Args:
        resume: Resume the run in -o where it was interrupted, or start it.

    Returns:
        3 when some clips could not be read.

    Examples:
        muybridge train --data my_videos -o runs/first
        muybridge train --config src/muybridge/recipes/kinetics400_r2plus1d_18_16f.yaml --data kinetics -o runs/k400 --resume
        muybridge train --data ucf101.csv --init runs/kinetics --training.learning-rate 0.001 -o runs/ucf101
    """
    from muybridge.evaluation.evaluate import format_metrics
    from muybridge.training.train import train as train_network

    result = train_network(settings, resume=resume)
    if not current_rank().is_rank0:
        return 0
    print_line(f"trained {settings.model} for {result.train_state.step} steps; the run is in {settings.output}")
    if result.validation_metrics:
        print_line(f"validation: {format_metrics(result.validation_metrics)}")
    return 3 if result.train_state.num_failed else 0
