"""`muybridge train`: settings -> job -> fit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from muybridge.cli.options import VerbParser, parse_settings, verb_parser
from muybridge.distributed.rank import current_rank, get_num_restarts
from muybridge.settings import TrainSettings

if TYPE_CHECKING:
    from muybridge.training.fit import FitResult

EXAMPLES = (
    "muybridge train --data my_videos -o runs/first",
    "muybridge train --config src/muybridge/recipes/kinetics400_r2plus1d_18_16f.yaml --data kinetics -o runs/kinetics --resume",
    "muybridge train --data ucf101.csv --init runs/kinetics --training.learning_rate 0.001 -o runs/ucf101",
)


def run(words: Sequence[str]) -> int:
    """Trains, and prints the last validation on standard output; exit code 3 when some clips could not be read."""
    settings, found = parse_settings(train_parser(), TrainSettings, words)

    from muybridge.evaluation.evaluate import format_accuracy

    outcome = train(settings, resume=found.resume)
    if not current_rank().is_rank0:
        return 0
    print(f"trained {settings.model} for {outcome.train_state.step} steps; the run is in {settings.output}")
    if outcome.validation_accuracy:
        print(f"validation: {format_accuracy(outcome.validation_accuracy)}")
    return 3 if outcome.train_state.num_failed else 0


def train_parser() -> VerbParser:
    """The verb's parser, before it takes in the settings."""
    parser = verb_parser(
        "train",
        "--data DATA [--model MODEL] [-o RUN] [--config FILE] [--resume] [SETTINGS]",
        "Trains a network. Defaults are the paper's recipe; any setting can be given as an option or in a YAML file.",
        EXAMPLES,
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in -o, or start it")
    return parser


def train(settings: TrainSettings, *, resume: bool) -> FitResult:
    """One run, told on standard error."""
    from rich.console import Console

    from muybridge.distributed.process_group import join_process_group, local_device
    from muybridge.inference.scorer import resolve_device
    from muybridge.training.fit import fit
    from muybridge.training.job import describe_job, prepare_job

    device = local_device(resolve_device(settings.device))
    with join_process_group(device, settings.timeouts.start_minutes) as ranks:
        console = Console(file=sys.stderr, soft_wrap=True, markup=False, highlight=False, quiet=not ranks.is_rank0)
        job = prepare_job(settings, resume=resume or get_num_restarts() > 0, process_group=ranks)
        for line in describe_job(job) if ranks.is_rank0 else ():
            console.print(line)
        outcome = fit(job, console)
    progress = outcome.train_state
    if progress.num_looped:
        console.print(
            f"{progress.num_looped} of {progress.num_drawn} clips are of videos shorter than a clip, repeated in a loop"
        )
    if progress.num_skipped_steps:
        console.print(f"{progress.num_skipped_steps} of {progress.step} steps moved nothing: not finite")
    if progress.num_failed:
        console.print(
            f"{progress.num_failed} of {progress.num_drawn} clips could not be read; "
            f"{job.folder / 'failures.jsonl'} names them"
        )
    return outcome
