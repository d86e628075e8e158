"""`muybridge folds`: one recipe on every official fold of a data set, and the mean (UCF101 and HMDB51: Table 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from muybridge.cli.options import ShownFirst
from muybridge.cli.output import print_json
from muybridge.distributed.rank import current_rank
from muybridge.settings import TrainSettings
from muybridge.terminal import print_line
from muybridge.training.given_settings import GivenSettings

if TYPE_CHECKING:
    from muybridge.studies.folds import FoldsResult

MAIN_OPTIONS = ShownFirst(("data", "model", "output", "config", "init", "json", "training.epochs"))


def folds(given: Annotated[GivenSettings, TrainSettings, MAIN_OPTIONS], *, json: bool = False) -> int:
    """Trains and tests on folds 1, 2 and 3 of a data set with official folds, and prints the mean.

    The same command resumes an interrupted run: finished folds are not trained again.

    Args:
        json: Print JSON.

    Returns:
        3 when some test videos could not be read.

    Examples:
        muybridge folds --config src/muybridge/recipes/fine_tuning/ucf101_r2plus1d_34_32f_rgb.yaml --data ucf101 -o runs/ucf101
        muybridge folds --data hmdb51 --init runs/kinetics -o runs/hmdb51 --json
    """
    if given.find("fold") is not None:
        raise ValueError("folds runs all three; leave --fold out, or use `muybridge train --fold` for one")
    if current_rank().world_size > 1:
        raise ValueError("folds runs in one process; with torchrun use train and evaluate with --fold 1, 2 and 3")

    from muybridge.studies.folds import train_and_test_folds
    from muybridge.training.resolve import resolve_settings

    resolved = resolve_settings(given, resume=False)  # the same for every fold; each is resumed in its own folder
    for note in resolved.notes:
        print_line(note, error=True)
    result = train_and_test_folds(resolved.settings)
    if json:
        print_json(result.to_json())
    else:
        _print(result)
    return 3 if result.num_failed_videos else 0


def _print(result: FoldsResult) -> None:
    print_line()
    print_line(f"{'fold':<8}{'clip@1':>9}{'video@1':>9}{'video@5':>9}{'videos':>9}{'failed':>9}")
    for row in result.folds:
        columns = _format_columns(row)
        print_line(f"{row['fold']:<8.0f}{columns}{row['num_videos']:>9.0f}{row['num_failed_videos']:>9.0f}")
    print_line(f"{'mean':<8}{_format_columns(result.mean)}")
    print_line(f"{'+-':<8}{_format_columns(result.deviation)}")


def _format_columns(figures: Mapping[str, float]) -> str:
    return "".join(f"{figures[name]:>9.1f}" for name in ("clip_top1", "video_top1", "video_top5"))
