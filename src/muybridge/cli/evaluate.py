"""`muybridge evaluate`: scores first, then the accuracy that is read off them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from muybridge.cli.options import parse_settings, verb_parser
from muybridge.distributed.rank import current_rank
from muybridge.settings import EvaluateSettings
from muybridge.text import format_percent

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
    """`evaluate_split` with a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    from muybridge.evaluation.evaluate import evaluate_split

    console = Console(file=sys.stderr)
    quiet = not console.is_terminal or not current_rank().is_rank0
    with Progress(console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("videos", total=None)
        return evaluate_split(
            run_folder,
            settings,
            path,
            on_progress=lambda num_done, num_videos: bar.update(task, completed=num_done, total=num_videos),
        )


def _print(result: EvaluationResult, path: Path) -> None:
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
        print(
            f"{name:<9}{format_percent(everything.share):>9}   {interval:<17}{format_percent(rates.of_readable.share):>9}"
        )
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
