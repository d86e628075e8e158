"""The report of one run, or of one score file.

Input: a run record, and a reader of its clips or the reason why there is none. Output: a `Page`.
"""

from __future__ import annotations

from muybridge.evaluation.metrics import compute_confusion_matrix
from muybridge.evaluation.overlap import MAYBE_CHOSEN, NO_TEST_RESULT, TRAINING_INCLUDED, WHILE_TRAINING
from muybridge.report.confusions import list_confused_pairs
from muybridge.report.document import Block, Page, Paragraph, Section
from muybridge.report.sections.accuracy import (
    build_accuracy_blocks,
    build_class_blocks,
    format_data,
    format_protocol,
    format_top1,
)
from muybridge.report.sections.confusions import build_confusion_blocks
from muybridge.report.sections.mistakes import ReportClips, build_clips_note, build_mistake_blocks
from muybridge.report.sections.remarks import build_remarks
from muybridge.report.sections.timelines import build_timeline_blocks
from muybridge.report.sections.training import (
    build_curve_blocks,
    build_failure_blocks,
    build_settings_table,
    build_speed_blocks,
    summarize_speed,
)
from muybridge.report.sources import EvaluationRecord, RunRecord
from muybridge.report.tables import Table, make_columns
from muybridge.text import format_count, format_percent

MIN_MUTUAL_CONFUSION = (
    0.2  # the share of two classes' videos taken for the other from which a page warns of blindness to order
)
NO_SCORES = "There are no scores yet, so no accuracy: run `muybridge evaluate` on this run."


def build_run_page(run: RunRecord, clips: ReportClips) -> Page:
    """Build the page of a run; details are about its first score file."""
    sections = [*_build_score_sections(run, clips), *build_details(run)]
    return Page(make_title(run), tuple(_build_lead(run)), tuple(sections), _summarize_run(run))


def build_details(run: RunRecord) -> list[Section]:
    """What a page says about a run besides scores of videos: timelines, training, failures, speed, settings, environment."""
    sections: list[Section] = []
    if run.timelines:
        sections.append(Section("timelines", "Timelines", tuple(build_timeline_blocks(run.timelines))))
    if run.log:
        sections.append(Section("training", "Training", tuple(build_curve_blocks(run))))
    views = [view for one in run.evaluations for view in one.failures]
    views += [view for one in run.task_evaluations for view in one.failures]
    sections.append(Section("failures", "Failures", tuple(build_failure_blocks(views, run.failures))))
    if run.log:
        sections.append(Section("speed", "Speed", tuple(build_speed_blocks(run))))
    if run.settings:
        sections.append(Section("settings", "Settings", tuple(_build_settings_blocks(run))))
    sections.append(Section("environment", "Environment", tuple(_build_environment_blocks(run))))
    return sections


def _build_score_sections(run: RunRecord, clips: ReportClips) -> list[Section]:
    if not run.evaluations:
        return [Section("accuracy", "Accuracy", (Paragraph(NO_SCORES, "warning"),))]
    first = run.evaluations[0]
    suffix = f" ({first.name})" if len(run.evaluations) > 1 else ""
    return [
        Section("accuracy", "Accuracy", tuple(build_accuracy_blocks(run.evaluations))),
        Section("confusion", f"Confusion{suffix}", tuple(build_confusion_blocks(first))),
        Section("classes", f"Classes{suffix}", tuple(build_class_blocks(first))),
        Section("mistakes", f"Most confident mistakes{suffix}", tuple(_build_mistakes(first, clips))),
    ]


def _build_mistakes(evaluation: EvaluationRecord, clips: ReportClips) -> list[Block]:
    blocks = build_mistake_blocks("mistakes", "Most confident mistakes", evaluation.mistakes, clips)
    return [*build_clips_note(clips), *blocks] if evaluation.mistakes else blocks


def _build_settings_blocks(run: RunRecord) -> list[Block]:
    blocks: list[Block] = [build_settings_table("settings", "Settings of the run", run.settings)]
    if run.network:
        blocks.append(build_settings_table("network", "Specification of the network", run.network))
    return blocks


def _build_environment_blocks(run: RunRecord) -> list[Block]:
    blocks: list[Block] = []
    if run.environment:
        blocks.append(build_settings_table("environment", "Training environment", run.environment))
    headers = {one.name: one.video_scores.header for one in run.evaluations}
    headers |= {one.name: one.outputs.header for one in run.task_evaluations}
    rows = tuple((name, header.model_sha256, header.manifest_sha256) for name, header in headers.items())
    if rows:
        columns = make_columns("scores", "SHA-256 of the weights", "SHA-256 of the list of videos")
        blocks.append(Table("hashes", "What was scored", columns, rows))
    return blocks


def make_title(run: RunRecord) -> str:
    """The name of a run with its network."""
    model = run.settings.get("model")
    return f"{run.name} ({model})" if isinstance(model, str) and model != run.name else run.name


def _build_lead(run: RunRecord) -> list[Paragraph]:
    if not run.evaluations:
        return [Paragraph(NO_SCORES, "warning")]
    accuracy = run.evaluations[0].accuracy
    top1 = accuracy.video_top1.of_all
    data = f" Trained on {run.data}." if run.data else ""
    baseline = accuracy.format_baseline()
    return [
        Paragraph(f"{format_top1(top1)}; {format_count(len(accuracy.per_class), 'class')}.{data}"),
        *build_remarks(run.evaluations[0].name, run.evaluations[0].remarks),
        *([Paragraph(f"The run has not finished: {run.unfinished}.", "warning")] if run.unfinished else []),
        Paragraph(f"{baseline[0].upper()}{baseline[1:]}."),
        *[Paragraph(gap) for gap in [_describe_gap(run)] if gap],
        *[Paragraph(blindness, "warning") for blindness in [_describe_order_blindness(run)] if blindness],
        Paragraph(f"Measured on {format_data(run.evaluations[0])}{format_protocol(accuracy)}."),
    ]


def _describe_order_blindness(run: RunRecord) -> str | None:
    """That f-R2D cannot tell two classes apart by order, where it often takes each of the two for the other."""
    if not str(run.settings.get("model", "")).startswith("f_r2d_"):
        return None
    scores = run.evaluations[0].video_scores
    shares = {
        (pair.label, pair.predicted): pair.num_confused / pair.num_videos
        for pair in list_confused_pairs(compute_confusion_matrix(scores))
    }
    mutual = {
        (first, second): min(share, shares.get((second, first), 0.0))
        for (first, second), share in shares.items()
        if first < second
    }
    worst = max(mutual, key=lambda pair: mutual[pair], default=None)
    if worst is None or mutual[worst] < MIN_MUTUAL_CONFUSION:
        return None
    first, second = (scores.header.classes[index] for index in worst)
    return (
        f"f-R2D averages over frames and is blind to their order. It takes {first} and {second} for each other: if they differ "
        "by order alone, such as a motion and its reversal, train a network with convolutions in time, such as r2plus1d_18."
    )


def _describe_gap(run: RunRecord) -> str | None:
    """video@1 on validation beside test, where both are of the same weights, which have not seen them in training."""
    own = {one.name: one for one in run.evaluations if one.name == one.accuracy.split and not one.is_of_other_data}
    if not {"validation", "test"} <= own.keys():
        return None
    pair = own["validation"], own["test"]
    if len({one.video_scores.header.model_sha256 for one in pair}) > 1:
        weights = "the last validated weights" if WHILE_TRAINING in pair[0].remarks else "other weights"
        return f"The validation scores are of {weights}, not of those scored on the test split, so the two cannot be compared."
    if any(remark.startswith(TRAINING_INCLUDED) for one in pair for remark in one.remarks):
        return None
    validation, test = (one.accuracy.video_top1.of_all for one in pair)
    chosen = ", by which the weights were chosen" if _was_chosen_by(own["validation"]) else ""
    return (
        f"video@1 is {format_percent(validation.share)} on {format_count(validation.of, 'validation video')} and "
        f"{format_percent(test.share)} on {format_count(test.of, 'test video')}: "
        f"{100 * (validation.share - test.share):+z.1f} points from test to validation{chosen}."
    )


def _was_chosen_by(validation: EvaluationRecord) -> bool:
    """Whether the scored weights are known to be chosen by the videos of this score file."""
    return validation.checkpoint != "last" and any(
        remark.startswith(NO_TEST_RESULT) and MAYBE_CHOSEN not in remark for remark in validation.remarks
    )


def _summarize_run(run: RunRecord) -> dict[str, object]:
    return {
        "run": run.name,
        "accuracy": {one.name: one.accuracy.to_json() for one in run.evaluations},
        "remarks": {one.name: list(one.remarks) for one in run.evaluations},
        "timelines": {one.name: one.to_json() for one in run.timelines},
        "speed": summarize_speed(run),
    }
