"""`muybridge evaluate`: scores first, then the accuracy that is read off them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from muybridge.cli.options import parse_settings, verb_parser
from muybridge.distributed.rank import current_rank
from muybridge.files.run_folder import read_settings
from muybridge.settings import EvaluateSettings

if TYPE_CHECKING:
    from muybridge.evaluation.evaluate import EvaluationResult

EXAMPLES = (
    "muybridge evaluate runs/first --data my_videos",
    "muybridge evaluate runs/first --data my_videos --split validation --json",
    "muybridge evaluate best.safetensors --data ucf101.csv --evaluation.clips 20 -o scores.parquet",
    "muybridge evaluate first.onnx --data my_videos",
)
NUM_WORST = 5


def run(words: Sequence[str]) -> int:
    """Prints the accuracy with its protocol; exit code 3 when some videos could not be read, 1 when none could."""
    parser = verb_parser(
        "evaluate",
        "RUN --data DATA [--split test] [-o SCORES.parquet] [--json] [SETTINGS]",
        "Scores a data set by the paper's protocol: 10 uniform centre-crop clips a video, softmax averaged.",
        EXAMPLES,
    )
    parser.add_argument("run", help="a run folder, a .safetensors or .onnx file, or a name of the catalogue")
    parser.add_argument("--json", action="store_true", help="print JSON")
    settings, found = parse_settings(parser, EvaluateSettings, words)
    from muybridge.distributed.process_group import join_process_group, local_device
    from muybridge.inference.scorer import resolve_device
    from muybridge.weights.address import download_once_per_node

    path = scores_path(found.run, settings)
    device = local_device(resolve_device(settings.device))
    with join_process_group(device, settings.timeouts.start_minutes) as ranks:
        if not found.run.endswith(".onnx"):
            download_once_per_node(found.run, ranks)
        result = score_split(found.run, settings, path)
    if not ranks.is_rank0:
        return 0
    if found.json:
        told = {"scores": str(path), "num_looped_videos": result.num_looped_videos, **result.accuracy.to_json()}
        print(json.dumps(told, indent=2))
    else:
        _print(result, path)
    num_failed = result.accuracy.num_failed_videos
    return 0 if not result.accuracy.num_failed_views else 1 if num_failed == result.accuracy.num_videos else 3


def scores_path(run_folder: str, settings: EvaluateSettings) -> Path:
    """Where the scores go: as asked, else into the run folder, else beside the weights."""
    if settings.output:
        return Path(settings.output)
    address = Path(run_folder)
    return (
        address / "scores" / f"{settings.split}.parquet" if address.is_dir() else address.with_suffix(".scores.parquet")
    )


def score_split(run_folder: str, settings: EvaluateSettings, path: Path) -> EvaluationResult:
    """Scores one split of a data set with the weights of a run into a score file."""
    from rich.console import Console
    from rich.progress import Progress

    from muybridge.distributed.process_group import local_device
    from muybridge.distributed.watchdog import Watchdog
    from muybridge.evaluation.evaluate import EvaluationJob, evaluate
    from muybridge.inference.scorer import load_scorer, resolve_device
    from muybridge.loading.open_data import open_data

    device, here, limits = local_device(resolve_device(settings.device)), current_rank(), settings.timeouts
    loaded = load_scorer(run_folder, device)
    card = loaded.card
    settings = with_the_splits_of(run_folder, settings)
    data = open_data(settings.data, fold=settings.fold, seed=settings.seed or 0)
    chosen = data.select_split(settings.split)
    if len(chosen) == 0:
        raise ValueError(
            f"{settings.data} has no videos in the split {settings.split}; it has {', '.join(data.count_videos())}"
        )
    examination = EvaluationJob(
        manifest=chosen.remap_labels(card.classes),
        split=settings.split,
        fold=settings.fold,
        preprocessing=card.preprocessing,
        model_sha256=card.tensors_sha256,
        evaluation=settings.evaluation,
        loading=settings.loading,
    )
    console = Console(file=sys.stderr)
    quiet = not console.is_terminal or not here.is_rank0
    with (
        Watchdog(here) as watch,
        Progress(console=console, transient=True, disable=quiet) as bar,
        watch.limit_phase("evaluation", limits.scoring_minutes, "timeouts.scoring_minutes"),
    ):
        task = bar.add_task("videos", total=len(chosen))

        def finished(num_videos: int) -> None:
            watch.reset_deadline()
            bar.update(task, completed=num_videos)

        return evaluate(examination, loaded.scorer, path, device=device, on_progress=finished)


def with_the_splits_of(run_folder: str, settings: EvaluateSettings) -> EvaluateSettings:
    """The settings with the fold and the seed of a run on the same data where they are unset.

    Otherwise videos that the run was trained on could stand in the split that is scored.
    """
    address = Path(run_folder)
    saved = (address if address.is_dir() else address.parent) / "settings.yaml"
    if not saved.is_file():
        return settings
    trained = read_settings(saved)
    data = str(trained.get("data"))
    if data != settings.data and Path(data).resolve() != Path(settings.data).resolve():
        return settings
    return replace(
        settings,
        fold=trained.get("fold") if settings.fold is None else settings.fold,
        seed=trained.get("seed") if settings.seed is None else settings.seed,
    )


def _print(result: EvaluationResult, path: Path) -> None:
    from muybridge.evaluation.evaluate import format_percent

    measured = result.accuracy
    print(f"{measured.protocol.format_sentence()}; split {measured.split}\n")
    print(f"{'':<9}{'all':>9}   {'95 % interval':<17}{'readable':>9}")
    for name, rates in (
        ("clip@1", measured.clip_top1),
        ("video@1", measured.video_top1),
        ("video@5", measured.video_top5),
    ):
        everything = rates.of_all
        interval = f"{100 * everything.low:.1f} to {100 * everything.high:.1f}"
        print(f"{name:<9}{format_percent(everything):>9}   {interval:<17}{format_percent(rates.of_readable):>9}")
    print(f"\n{measured.video_top1.of_all.of} videos", end="")
    if measured.num_failed_videos:
        print(f", {measured.num_failed_videos} of them unreadable and counted as wrong under 'all'", end="")
    if measured.num_unlabelled_videos:
        print(f"; {measured.num_unlabelled_videos} more without a label", end="")
    if result.num_looped_videos:
        print(f"; {result.num_looped_videos} shorter than a clip and repeated in a loop", end="")
    seen = [row for row in measured.per_class if row.of]
    worst = sorted(seen, key=lambda row: row.right / row.of)[:NUM_WORST]
    print("\nhardest classes: " + ", ".join(f"{row.name} {row.right}/{row.of}" for row in worst))
    print(f"scores: {path}")
