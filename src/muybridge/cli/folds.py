"""`muybridge folds`: one recipe on every official fold of a data set, and the mean over folds (UCF101 and HMDB51: Table 6)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from muybridge.cli.options import VerbParser, parse_settings, verb_parser
from muybridge.distributed.rank import current_rank
from muybridge.settings import EvaluateSettings, TrainSettings

EXAMPLES = (
    "muybridge folds --config src/muybridge/recipes/fine_tuning/ucf101_r2plus1d_34_32f_rgb.yaml --data ucf101 "
    "--init r2plus1d_34-kinetics400-vmz-32f -o runs/ucf101",
    "muybridge folds --data hmdb51 --init runs/kinetics -o runs/hmdb51 --json",
)
FOLDS = (1, 2, 3)
FIGURES = ("clip_top1", "video_top1", "video_top5")


def run(words: Sequence[str]) -> int:
    """Trains and tests on every fold; prints each and the mean. Started again, finished folds are not trained again."""
    parser = folds_parser()
    settings, found = parse_settings(parser, TrainSettings, words)
    if settings.fold is not None:
        raise ValueError("folds goes over all three; leave --fold out, or use `muybridge train --fold` for one")
    if current_rank().world_size > 1:
        raise ValueError("folds runs in one process; with torchrun use train and evaluate with --fold 1, 2 and 3")

    rows = [
        fold_figures(replace(settings, fold=fold, output=str(Path(settings.output) / f"fold-{fold}"))) for fold in FOLDS
    ]
    means = {name: statistics.mean(row[name] for row in rows) for name in FIGURES}
    deviations = {name: statistics.stdev(row[name] for row in rows) for name in FIGURES}
    num_failed = sum(int(row["num_failed_videos"]) for row in rows)
    if found.json:
        print(json.dumps({"folds": rows, "mean": means, "deviation": deviations}, indent=2))
    else:
        print(f"\n{'fold':<8}{'clip@1':>9}{'video@1':>9}{'video@5':>9}{'videos':>9}{'failed':>9}")
        for row in rows:
            print(f"{row['fold']:<8.0f}{_columns(row)}{row['num_videos']:>9.0f}{row['num_failed_videos']:>9.0f}")
        print(f"{'mean':<8}{_columns(means)}\n{'+-':<8}{_columns(deviations)}")
    return 3 if num_failed else 0


def folds_parser() -> VerbParser:
    """The verb's parser, before it takes in the settings."""
    parser = verb_parser(
        "folds",
        "--data DATA [--config FILE] [--init WEIGHTS] [-o FOLDER] [--json] [SETTINGS]",
        "Trains and tests on folds 1, 2 and 3 of a data set that has official folds; prints the mean over them.",
        EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def fold_figures(settings: TrainSettings) -> dict[str, float]:
    """One fold, trained where it is not yet, and tested: figures in percent of all videos, and how many there were."""
    from muybridge.cli.evaluate import score_split
    from muybridge.cli.train import train

    train(settings, resume=True)
    test = EvaluateSettings(
        data=settings.data,
        fold=settings.fold,
        device=settings.device,
        seed=settings.seed,
        evaluation=settings.evaluation,
        loading=settings.loading,
    )
    measured = score_split(settings.output, test, Path(settings.output) / "scores" / "test.parquet").accuracy
    return {
        "fold": float(settings.fold or 0),
        **{name: 100 * getattr(measured, name).of_all.share for name in FIGURES},
        "num_videos": float(measured.num_videos),
        "num_failed_videos": float(measured.num_failed_videos),
    }


def _columns(figures: dict[str, float]) -> str:
    return "".join(f"{figures[name]:>9.1f}" for name in FIGURES)
