"""`muybridge fuse`: the scores of several networks averaged, and the accuracy of the average."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from muybridge.bounds import Weight
from muybridge.cli.output import print_json, resolve_output
from muybridge.files.atomic import check_not_input, check_output_file
from muybridge.terminal import print_line, print_lines
from muybridge.text import format_percent, sanitize_text

if TYPE_CHECKING:
    from muybridge.evaluation.fuse import Fusion


def fuse(
    scores: list[str], *, weights: list[Weight] | None = None, output: str | None = None, json: bool = False
) -> int:
    """Averages the class probabilities of score files of the same videos, view by view; of other tasks, the numbers.

    Args:
        scores: Score files written by `muybridge evaluate`.
        weights: One weight for each file (default: all equal).
        output: Also write the average to this .csv or .json file, with a row for each video; - prints the table alone.
        json: Print JSON.

    Returns:
        3 when a video could not be fused or read.

    Examples:
        muybridge fuse runs/rgb/scores/test.parquet runs/flow/scores/test.parquet
        muybridge fuse rgb.parquet flow.parquet --weights 0.6 0.4 -o fused.csv
    """
    from muybridge.evaluation.fuse import fuse as fuse_scores
    from muybridge.evaluation.scores import describe_different_data, read_any_scores, read_execution, read_remarks
    from muybridge.evaluation.scores_text import TEXT_EXTENSIONS, write_scores_text

    target = resolve_output(output, prints_json=json) if output else None
    if target:
        check_output_file(target, TEXT_EXTENSIONS)
        check_not_input(target, scores)

    _check_different(scores)
    members = [read_any_scores(Path(path)) for path in scores]
    fusion = fuse_scores(members, weights or [1.0] * len(members), names=scores)
    # What flatters the score of a member flatters the mean.
    remarks = [f"{name}: {remark}" for name in scores for remark in read_remarks(Path(name))]
    remarks += describe_different_data({name: (read_execution(Path(name)) or {}).get("data") for name in scores})
    values = {**fusion.to_json(), "remarks": remarks}
    if target:
        write_scores_text(target, fusion.videos, values)
    if json:
        print_json(values)
    elif output != "-":
        _print(fusion)
        print_lines(map(sanitize_text, remarks))
        if output:
            print_line(f"wrote {output}")
    for problem in fusion.problems:
        print_line(problem, error=True)
    return 3 if fusion.problems or fusion.metrics.num_failed_views else 0


def _check_different(scores: list[str]) -> None:
    """Raises ValueError for a file that is given twice: the average would be that of fewer networks than it says."""
    files: set[Path] = set()
    for name in scores:
        if (file := Path(name).resolve()) in files:
            raise ValueError(f"{name} is given twice; name each score file once, and weigh it with --weights")
        files.add(file)


def _print(fusion: Fusion) -> None:
    from muybridge.cli.task_output import print_task_metrics
    from muybridge.evaluation.metrics import Accuracy
    from muybridge.evaluation.task_metrics import TaskMetrics

    if isinstance(fusion.metrics, TaskMetrics):
        print_task_metrics(fusion.metrics, fusion.format_sentence())
        print_line()
        for name, member in zip(fusion.names, fusion.members, strict=True):
            if isinstance(member, TaskMetrics):
                print_line(f"{sanitize_text(name)}: {member.format_line()}")
        return
    print_line(f"{fusion.format_sentence()}; split {fusion.accuracy.split}")
    print_line()
    top5_name = "video@5" if len(fusion.accuracy.figures) > 2 else ""
    members = [member for member in fusion.members if isinstance(member, Accuracy)]
    rows = [*zip(fusion.names, members, strict=True), ("fused", fusion.accuracy)]
    width = max(len(sanitize_text(name)) for name, _ in rows)
    print_line(f"{'':<{width}}{'clip@1':>9}{'video@1':>9}   {'95 % interval':<17}{top5_name:>9}{'readable videos':>17}")
    for name, measured in rows:
        top1 = measured.video_top1.of_all
        clip = "-" if name == "fused" and fusion.level == "video" else format_percent(measured.clip_top1.of_all.share)
        interval = f"{100 * top1.low:.1f} to {100 * top1.high:.1f}"
        readable = f"{measured.num_videos - measured.num_failed_videos} of {measured.num_videos}"
        print_line(
            f"{sanitize_text(name):<{width}}{clip:>9}{format_percent(top1.share):>9}   {interval:<17}"
            f"{format_percent(measured.video_top5.of_all.share) if top5_name else '':>9}{readable:>17}"
        )
    print_line()
    print_line(fusion.accuracy.format_baseline())
