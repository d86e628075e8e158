"""`muybridge train`: trains a network on a data set."""

from __future__ import annotations

from typing import Annotated

from muybridge.cli.options import ShownFirst
from muybridge.distributed.rank import current_rank
from muybridge.settings import TrainSettings
from muybridge.terminal import print_line
from muybridge.text import format_count
from muybridge.training.given_settings import GivenSettings

MAIN_OPTIONS = ShownFirst(
    (
        "data",
        "model",
        "output",
        "init",
        "recipe",
        "config",
        "resume",
        "training.epochs",
        "training.learning_rate",
        "training.batch_size",
    )
)


def train(given: Annotated[GivenSettings, TrainSettings, MAIN_OPTIONS], *, resume: bool = False) -> int:
    """Trains a network. Every setting is an option and a key of a YAML file.

    Start from pretrained weights with --init: network, preprocessing and recipe are then set to suit them. Training from random
    weights takes thousands of videos. Precedence: options, --config, --recipe, the weights of --init, defaults (the paper's).

    Args:
        resume: Resume the run in -o where it was interrupted, with its own settings, or start it. With more --training.epochs
            than it has, the run is extended.

    Returns:
        3 when some clips could not be read.

    Examples:
        muybridge train --data my_videos --init r2plus1d_18-kinetics400-torchvision -o runs/first
        muybridge train -o runs/first --resume
        muybridge train -o runs/first --resume --training.epochs 20
        muybridge train --data my_videos --recipe scratch -o runs/scratch
        muybridge train --config src/muybridge/recipes/kinetics400_r2plus1d_18_16f.yaml --data kinetics -o runs/k400
    """
    from muybridge.evaluation.evaluate import format_result_line
    from muybridge.training.train import train_given

    result, settings = train_given(given, resume=resume)
    if not current_rank().is_rank0:
        return 0
    steps = format_count(result.train_state.step, "step")
    print_line(f"trained {settings.model} for {steps}; the run is in {settings.output}")
    if result.validation_metrics:
        chosen_by = f"(not a test result: these videos chose the best weights, of step {result.train_state.best_step})"
        print_line(f"validation of the last weights: {format_result_line(result.validation_metrics)} {chosen_by}")
    if result.validation_accuracy:
        print_line(f"validation: {result.validation_accuracy.format_baseline()}")
    return 3 if result.train_state.num_failed else 0
