"""`muybridge evaluate --timeline`: how well segments along whole files agree with the labelled ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from muybridge.cli.output import compute_exit_code, print_json, print_notes
from muybridge.distributed.rank import current_rank
from muybridge.files.atomic import check_output_file
from muybridge.settings import EvaluateSettings, settings_to_dict
from muybridge.terminal import print_line
from muybridge.text import format_count, format_percent
from muybridge.training.given_settings import diff_settings

if TYPE_CHECKING:
    from muybridge.prediction.timeline_evaluation import TimelineResult


def evaluate_timeline(
    run: str, settings: EvaluateSettings, step: int | None, *, json: bool, refuse_overlap: bool
) -> int:
    """Scores timelines, writes the files and prints the scores; returns the exit code."""
    if current_rank().world_size > 1:
        raise ValueError("--timeline runs in one process; leave torchrun out")
    _describe_unused(settings)

    from muybridge.console import create_progress
    from muybridge.prediction.timeline_evaluation import TimelineFiles, evaluate_timelines

    path = Path(settings.output) if settings.output else None
    if path:
        files = TimelineFiles.beside(path)
        check_output_file(files.segments, (".parquet",))
        for file in (files.curves, files.bouts):
            check_output_file(file)
    with create_progress() as bar:
        task = bar.add_task("videos", total=None)
        result = evaluate_timelines(
            run,
            settings,
            path,
            step_frames=step,
            refuse_overlap=refuse_overlap,
            on_progress=lambda num_done, num_videos: bar.update(task, completed=num_done, total=num_videos),
        )
    print_notes(result.notes)
    if json:
        print_json(result.to_json())
    else:
        _print(result, settings.split)
    # A video that was read in part counts as read, but what failed is recorded all the same.
    has_failures = bool(result.failures or result.validation_failures)
    return compute_exit_code(result.num_failed_videos, result.scores.num_videos) or (3 if has_failures else 0)


def _describe_unused(settings: EvaluateSettings) -> None:
    """Says which settings are those of clips and of workers, while a timeline is read window by window in this process."""
    given = diff_settings(settings_to_dict(settings), settings_to_dict(EvaluateSettings(data=settings.data)))
    unused = [name for name in given if name.startswith(("evaluation.", "loading.", "timeouts."))]
    if unused:
        print_notes([f"not used with --timeline: {', '.join(unused)}"])


def _print(result: TimelineResult, split: str) -> None:
    scores = result.scores
    print_line(
        f"{format_count(scores.num_videos, 'video')} of split {split}, "
        f"{format_count(scores.num_true_segments, 'labelled segment')} and "
        f"{scores.num_predicted_segments} predicted ones, {scores.scored_seconds:.0f} s scored"
    )
    print_line(
        "time without a label is background" if result.gaps_are_background else "time without a label is not scored"
    )
    unsmoothed = "nothing is chosen on validation videos: windows are not smoothed, and segments may be of any length"
    print_line(result.choice.format_sentence() if result.choice else unsmoothed)
    print_line()
    if scores.frame_accuracy is None or scores.f1 is None or scores.edit_score is None:
        print_line("segments overlap, so there is no single class at a time: average precision alone")
    else:
        assert scores.majority_accuracy is not None
        _print_row(
            "frame accuracy",
            scores.frame_accuracy,
            f"always the most frequent class: {format_percent(scores.majority_accuracy)}",
        )
        for overlap, value in scores.f1.items():
            _print_row(
                f"F1@{100 * float(overlap):.0f}", value, "segments that overlap so much, in percent of their union"
            )
        _print_row("edit score", scores.edit_score, "order of segments")
    for overlap, value in scores.mean_average_precision.items():
        _print_row(f"mAP@{overlap}", value, "")
    _print_row("mAP", scores.average_mean_average_precision, "mean over these overlaps")
    for remark in result.caveats.remarks:
        print_line(remark)
    for video, reason in result.failures:
        print_line(f"{video}: {reason}")
    print_line()
    print_line(f"segments: {result.files.segments}")
    print_line(f"curves: {result.files.curves}")
    print_line(f"bouts: {result.files.bouts}")


def _print_row(name: str, share: float, remark: str) -> None:
    print_line(f"{name:<16}{format_percent(share):>8}   {remark}".rstrip())
