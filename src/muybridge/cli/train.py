"""`muybridge train`: parses settings, prints the result."""

from __future__ import annotations

from collections.abc import Sequence

from muybridge.cli.options import VerbParser, parse_settings, verb_parser
from muybridge.distributed.rank import current_rank
from muybridge.settings import TrainSettings

EXAMPLES = (
    "muybridge train --data my_videos -o runs/first",
    "muybridge train --config recipes/kinetics400_r2plus1d_18_16f.yaml --data kinetics -o runs/kinetics --resume",
    "muybridge train --data ucf101.csv --init runs/kinetics --training.learning_rate 0.001 -o runs/ucf101",
)


def run(words: Sequence[str]) -> int:
    """Trains, and prints the last validation on standard output; exit code 3 when some clips could not be read."""
    settings, found = parse_settings(train_parser(), TrainSettings, words)

    from muybridge.evaluation.evaluate import format_accuracy
    from muybridge.training.train import train

    result = train(settings, resume=found.resume)
    if not current_rank().is_rank0:
        return 0
    print(f"trained {settings.model} for {result.train_state.step} steps; the run is in {settings.output}")
    if result.validation_accuracy:
        print(f"validation: {format_accuracy(result.validation_accuracy)}")
    return 3 if result.train_state.num_failed else 0


def train_parser() -> VerbParser:
    """The verb's parser, before it takes in the settings."""
    parser = verb_parser(
        "train",
        "--data DATA [--model MODEL] [-o RUN] [--config FILE] [--resume] [SETTINGS]",
        "Trains a network. Defaults are the paper's recipe; any setting can be given as an option or in a YAML file.",
        EXAMPLES,
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in -o, or start it")
    return parser
