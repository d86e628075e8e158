"""`muybridge evaluate`: scores first, then the accuracy computed from the score file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from muybridge.bounds import FrameStep
from muybridge.cli.evaluate_timeline import evaluate_timeline
from muybridge.cli.options import ShownFirst
from muybridge.cli.output import compute_exit_code, print_json, print_notes, resolve_output
from muybridge.distributed.rank import current_rank
from muybridge.files.atomic import check_not_input, check_output_file
from muybridge.settings import EvaluateSettings
from muybridge.terminal import print_line
from muybridge.text import format_count, format_percent

if TYPE_CHECKING:
    from muybridge.evaluation.evaluate import EvaluationResult

NUM_HARDEST_CLASSES = 5
MAIN_OPTIONS = ShownFirst(
    ("data", "split", "checkpoint", "output", "json", "evaluation.clips", "evaluation.batch_size", "device")
)


def evaluate(
    run: str,
    *,
    settings: Annotated[EvaluateSettings, MAIN_OPTIONS],
    json: bool = False,
    timeline: bool = False,
    step: FrameStep | None = None,
    refuse_overlap: bool = False,
) -> int:
    """Scores a data set by the paper's protocol: 10 uniform centre-crop clips a video, softmax averaged.

    With --timeline, the data is a list of segments, and what is scored is when the classes occur along each whole file.

    Args:
        run: A run folder, a .safetensors or .onnx file, or a catalogue name.
        json: Print JSON.
        timeline: Score segments along whole files: frame accuracy, segmental F1, edit score, mean average precision.
        step: With --timeline: frames between two windows (default: a quarter of a clip).
        refuse_overlap: Score nothing where training videos of the run are among the videos, or that cannot be told.

    Returns:
        3 when some videos could not be read, 1 when none could, and when --refuse-overlap refuses.

    Examples:
        muybridge evaluate runs/first --data my_videos
        muybridge evaluate runs/first --data my_videos --split validation --json
        muybridge evaluate best.safetensors --data ucf101.csv --evaluation.clips 20 -o scores.parquet
        muybridge evaluate first.onnx --data my_videos -o -
        muybridge evaluate runs/first --data segments.csv --timeline
    """
    if step is not None and not timeline:
        raise ValueError("--step is for --timeline; add it, or leave --step out")

    from muybridge.evaluation.overlap import OverlapError

    try:
        if timeline:
            return evaluate_timeline(run, settings, step, json=json, refuse_overlap=refuse_overlap)
        return _evaluate_videos(run, settings, json=json, refuse_overlap=refuse_overlap)
    except OverlapError as error:
        if current_rank().is_rank0:
            print_line(f"nothing is scored: {error}; score other videos, or leave --refuse-overlap out", error=True)
        return 1


def _evaluate_videos(run: str, settings: EvaluateSettings, *, json: bool, refuse_overlap: bool) -> int:
    """Scores videos, writes the score file and prints the accuracy; returns the exit code."""
    from muybridge.console import create_progress
    from muybridge.distributed.process_group import join_process_group, local_device
    from muybridge.evaluation.evaluate import evaluate_split
    from muybridge.evaluation.scores_text import TEXT_EXTENSIONS, write_scores_text
    from muybridge.evaluation.video_scores import read_any_video_scores
    from muybridge.inference.scorer import resolve_device
    from muybridge.weights.address import download_once_per_node

    target = resolve_output(settings.output, prints_json=json) if settings.output else None
    prints_table = settings.output == "-"
    if target:
        check_output_file(target, (".parquet", *TEXT_EXTENSIONS))
        check_not_input(target, [run, settings.data])
    is_text = prints_table or (target is not None and target.suffix.lower() in TEXT_EXTENSIONS)
    path = None if is_text else target  # text is written beside a score file of the default name
    device = local_device(resolve_device(settings.device))
    with join_process_group(device, settings.timeouts.start_minutes) as ranks:
        if not run.endswith(".onnx"):
            download_once_per_node(run, ranks)
        with create_progress(visible=ranks.is_rank0) as bar:
            task = bar.add_task("videos", total=None)
            result = evaluate_split(
                run,
                settings,
                path,
                refuse_overlap=refuse_overlap,
                on_progress=lambda num_done, num_videos: bar.update(task, completed=num_done, total=num_videos),
            )
    if not current_rank().is_rank0:
        return 0
    metrics = result.metrics
    print_notes(result.notes)
    if target and is_text:
        write_scores_text(target, read_any_video_scores(result.path), result.to_json())
    if json:
        print_json(result.to_json())
    elif not prints_table:  # it stands there alone
        _print(result)
        if target and is_text:
            print_line(f"wrote {target}")
    # A video with some unreadable views counts as read, but what failed is recorded all the same.
    return compute_exit_code(metrics.num_failed_videos, metrics.num_videos) or (3 if metrics.num_failed_views else 0)


def _print(result: EvaluationResult) -> None:
    from muybridge.cli.task_output import print_task_metrics
    from muybridge.evaluation.task_metrics import TaskMetrics

    cost = "" if result.cost == 1 else f", {result.cost:.2g} times the default's multiply-adds"
    if isinstance(result.metrics, TaskMetrics):
        print_task_metrics(result.metrics, f"{result.metrics.protocol.format_sentence()}{cost}")
        for remark in result.remarks:
            print_line(remark)
        print_line(f"scores: {result.path}")
        return
    accuracy = result.accuracy
    print_line(f"{accuracy.protocol.format_sentence()}{cost}; split {accuracy.split}")
    print_line()
    print_line(f"{'':<9}{'all':>9}   {'95 % interval':<17}{'readable':>9}")
    for name, rates in accuracy.figures:
        interval = f"{100 * rates.of_all.low:.1f} to {100 * rates.of_all.high:.1f}"
        shares = [format_percent(rate.share) for rate in (rates.of_all, rates.of_readable)]
        print_line(f"{name:<9}{shares[0]:>9}   {interval:<17}{shares[1]:>9}")
    print_line()
    for remark in result.remarks:
        print_line(remark)
    print_line(accuracy.format_baseline())
    remarks = format_count(accuracy.video_top1.of_all.of, "video")
    if accuracy.num_failed_videos:
        remarks += f", {accuracy.num_failed_videos} of them unreadable and counted as wrong under 'all'"
    if accuracy.num_unlabelled_videos:
        remarks += f"; {accuracy.num_unlabelled_videos} more without a label"
    if result.num_looped_videos:
        remarks += f"; {result.num_looped_videos} shorter than a clip and repeated in a loop"
    print_line()
    print_line(remarks)
    wrong = [row for row in accuracy.per_class if row.right < row.of]
    hardest = sorted(wrong, key=lambda row: row.right / row.of)[:NUM_HARDEST_CLASSES]
    if hardest:
        print_line("hardest classes: " + ", ".join(f"{row.name} {row.right}/{row.of}" for row in hardest))
    print_line(f"scores: {result.path}")
