"""`muybridge folds`: one recipe on every fold of a data set, and the mean (UCF101 and HMDB51: Table 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from muybridge.bounds import NumFolds
from muybridge.cli.options import ShownFirst
from muybridge.cli.output import print_json
from muybridge.distributed.rank import current_rank
from muybridge.settings import FoldUnit, TrainSettings
from muybridge.terminal import print_line
from muybridge.training.given_settings import GivenSettings, merge_settings

if TYPE_CHECKING:
    from muybridge.studies.folds import FoldsResult

MAIN_OPTIONS = ShownFirst(("k", "by", "data", "model", "output", "config", "init", "json", "training.epochs"))
DEFAULT_NUM_FOLDS = 5
SHOWN_NAMES = {"clip_top1": "clip@1", "video_top1": "video@1", "video_top5": "video@5", "mean_average_precision": "mAP"}


def folds(
    address: str | None = None,
    *,
    given: Annotated[GivenSettings, TrainSettings, MAIN_OPTIONS],
    k: NumFolds | None = None,
    by: FoldUnit | None = None,
    json: bool = False,
) -> int:
    """Trains and tests on every fold of a data set, and prints the mean and the standard deviation over folds.

    With -k or --by any data set is split into folds, whatever splits it has, with classes spread evenly over them. Without,
    folds 1, 2 and 3 are the official ones. The same command resumes an interrupted run: finished folds are not trained again.

    Args:
        address: The data, as --data.
        k: Split the data into this many folds (default: 5 with --by).
        by: What a fold keeps together: the videos of a group, such as a person or a recording (default with -k), or each video.
        json: Print JSON.

    Returns:
        3 when some test videos could not be read.

    Examples:
        muybridge folds my_videos.csv --by group -k 5 --init r2plus1d_18-kinetics400-torchvision -o runs/folds
        muybridge folds --config src/muybridge/recipes/fine_tuning/ucf101_r2plus1d_34_32f_rgb.yaml --data ucf101 -o runs/ucf101
        muybridge folds --data hmdb51 --init runs/kinetics -o runs/hmdb51 --json
    """
    given = _add_folds(given, address, k, by)
    if given.find("fold") is not None:
        raise ValueError("folds runs all of them; leave --fold out, or use `muybridge train --fold` for one")
    if current_rank().world_size > 1:
        raise ValueError("folds runs in one process; with torchrun use train and evaluate with --fold 1, 2 and so on")

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


def _add_folds(given: GivenSettings, address: str | None, k: int | None, by: FoldUnit | None) -> GivenSettings:
    """The settings with what the verb's own arguments say."""
    if address and given.find("data") not in (None, address):
        raise ValueError(f"the data is {address} and --data {given.find('data')}; name it once")
    added: dict[str, Any] = {"data": address} if address else {}
    if k or by or given.find("num_folds"):
        added["num_folds"] = k or given.find("num_folds") or DEFAULT_NUM_FOLDS
        added["fold_by"] = by or given.find("fold_by") or "group"
    return GivenSettings(merge_settings(given.values, added))


def _print(result: FoldsResult) -> None:
    widths = {name: max(9, len(SHOWN_NAMES.get(name, name)) + 2) for name in result.figures}
    header = "".join(f"{SHOWN_NAMES.get(name, name):>{width}}" for name, width in widths.items())
    print_line()
    print_line(f"{'fold':<8}{header}{'videos':>9}{'failed':>9}")
    for row in result.folds:
        columns = _format_columns(row, widths)
        print_line(f"{row['fold']:<8.0f}{columns}{row['num_videos']:>9.0f}{row['num_failed_videos']:>9.0f}")
    print_line(f"{'mean':<8}{_format_columns(result.mean, widths)}")
    print_line(f"{'+-':<8}{_format_columns(result.deviation, widths)}")
    for remark in result.remarks:
        print_line(remark)


def _format_columns(figures: Mapping[str, float], widths: Mapping[str, int]) -> str:
    """Accuracies in percent with one decimal, figures of other tasks with three digits."""
    return "".join(
        f"{figures[name]:>{width}.1f}"
        if "_top" in name or name in ("majority", "chance")
        else f"{figures[name]:>{width}.3g}"
        for name, width in widths.items()
    )
