"""The report of one run, or of one score file.

Enter: a `Run`, and a reader of its clips or the reason why there is none. Leaves: a `Page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from muybridge.records import VideoError
from muybridge.report.accuracy_parts import (
    accuracy_blocks,
    class_blocks,
    confusion_blocks,
    protocol_sentence,
    top1_sentence,
)
from muybridge.report.document import Block, Gallery, Page, Picture, Section, Text
from muybridge.report.mistakes import Mistake
from muybridge.report.pictures import ClipReader, clip_reader, moving_picture, still_picture
from muybridge.report.sources import Run
from muybridge.report.tables import Table, titles
from muybridge.report.training_parts import curve_blocks, failure_blocks, settings_table, speed, speed_blocks
from muybridge.report.wording import counted, percent

NO_SCORES = "There are no scores yet, so no accuracy: run `muybridge evaluate` on this run."


@dataclass(frozen=True)
class Clips:
    """Where the clips of a report come from; `absent` is a sentence where they cannot be had."""

    reader: ClipReader | None
    absent: str = ""


def run_page(run: Run, clips: Clips) -> Page:
    """Everything that is known of a run, the most telling score file in detail."""
    sections = [*_scored_sections(run, clips)]
    if run.log:
        sections.append(Section("training", "Training", tuple(curve_blocks(run.log))))
    views = [view for one in run.evaluated for view in one.failures]
    sections.append(Section("failures", "Failures", tuple(failure_blocks(views, run.failures))))
    if run.log:
        sections.append(Section("speed", "Speed", tuple(speed_blocks(run))))
    if run.settings:
        sections.append(Section("settings", "Settings", tuple(_settings_blocks(run))))
    sections.append(Section("environment", "Environment", tuple(_environment_blocks(run))))
    return Page(_subject(run), tuple(_lead(run)), tuple(sections), _facts(run))


def find_clips(run: Run, data: str | None) -> Clips:
    """A reader of the clips that a run was scored on, from `data` or else from where the run says it was trained.

    ValueError where `data` was named and cannot be read; a run's own address may well be gone.
    """
    address = data or run.data
    if not run.evaluated:
        return Clips(None, NO_SCORES)
    if address is None:
        return Clips(None, "The clips are not shown: where the videos are is not known; name the data with --data.")
    measured, seed = run.evaluated[0].measured, run.settings.get("seed", 0)
    try:
        reader = clip_reader(address, measured.protocol, fold=measured.fold, seed=seed if isinstance(seed, int) else 0)
    except ValueError as error:
        if data:
            raise
        return Clips(None, f"The clips are not shown: {error}; name the data with --data.")
    return Clips(reader)


def _scored_sections(run: Run, clips: Clips) -> list[Section]:
    if not run.evaluated:
        return [Section("accuracy", "Accuracy", (Text(NO_SCORES, "warning"),))]
    first = run.evaluated[0]
    of = f" ({first.name})" if len(run.evaluated) > 1 else ""
    return [
        Section("accuracy", "Accuracy", tuple(accuracy_blocks(run.evaluated))),
        Section("confusion", f"Confusion{of}", tuple(confusion_blocks(first))),
        Section("classes", f"Classes{of}", tuple(class_blocks(first))),
        Section("mistakes", f"Most confident mistakes{of}", tuple(mistake_blocks(first.mistakes, clips))),
    ]


def mistake_blocks(mistakes: Sequence[Mistake], clips: Clips) -> list[Block]:
    """The mistakes as moving pictures where the clips can be read, else as a table."""
    if not mistakes:
        return [Text("The network was mistaken about no readable video.")]
    rows = tuple(
        (one.video, ", ".join(one.labels), one.taken_for, 100 * one.probability, 100 * one.label_probability)
        for one in mistakes
    )
    columns = (*titles("video", "label", "taken for"), *titles("probability, %", "of the label, %", decimals=1))
    table = Table("mistakes", "Most confident mistakes", columns, rows)
    if clips.reader is None:
        return [Text(clips.absent), table]
    pictures, unread = _mistake_pictures(mistakes, clips.reader)
    said = [Text(f"Not shown: {video}: {reason}.", "warning") for video, reason in unread]
    explained = (
        "The clip of each video that is surest of the wrong class, at its own speed, cut as the network sees it. "
        "A sure mistake is often a wrong label or a video that shows both."
    )
    if not pictures:
        return [*said, table]
    in_files_only = replace(table, num_shown=0)  # the page has all of it under the pictures
    return [Text(explained), *said, Gallery("Most confident mistakes", tuple(pictures)), in_files_only]


def _mistake_pictures(mistakes: Sequence[Mistake], reader: ClipReader) -> tuple[list[Picture], list[tuple[str, str]]]:
    pictures, unread = [], []
    for one in mistakes:
        try:
            clip = reader.clip(one.video, one.view)
        except VideoError as error:
            unread.append((one.video, error.reason))
            continue
        labels = ", ".join(one.labels)
        at = "" if one.start_seconds is None else f", from {one.start_seconds:.1f} s"
        pictures.append(
            Picture(
                still=still_picture(clip),
                moving=moving_picture(clip),
                alt=f"Clip of {one.video}{at}: labelled {labels}, taken for {one.taken_for}",
                heading=f"{one.taken_for}, {percent(one.probability)}",
                lines=(f"labelled {labels}, {percent(one.label_probability)}", f"{one.video}{at}"),
            )
        )
    return pictures, unread


def _settings_blocks(run: Run) -> list[Block]:
    blocks: list[Block] = [settings_table("settings", "Settings of the run", run.settings)]
    if run.network:
        blocks.append(settings_table("network", "Specification of the network", run.network))
    return blocks


def _environment_blocks(run: Run) -> list[Block]:
    blocks: list[Block] = []
    if run.environment:
        blocks.append(settings_table("environment", "Where it was trained", run.environment))
    rows = tuple(
        (one.name, header.model_sha256, header.manifest_sha256)
        for one in run.evaluated
        for header in (one.videos.header,)
    )
    if rows:
        columns = titles("scores", "SHA-256 of the weights", "SHA-256 of the videos' list")
        blocks.append(Table("hashes", "What was scored", columns, rows))
    return blocks


def _subject(run: Run) -> str:
    model = run.settings.get("model")
    return f"{run.name} ({model})" if isinstance(model, str) and model != run.name else run.name


def _lead(run: Run) -> list[Text]:
    if not run.evaluated:
        return [Text(NO_SCORES, "warning")]
    measured = run.evaluated[0].measured
    top1 = measured.video_top1.of_all
    data = f" Trained on {run.data}." if run.data else ""
    return [
        Text(f"{top1_sentence(top1)}; {counted(len(measured.per_class), 'class')}.{data}"),
        Text(f"Measured on {protocol_sentence(measured)}."),
    ]


def _facts(run: Run) -> dict[str, object]:
    return {
        "run": run.name,
        "accuracy": {one.name: one.measured.to_json() for one in run.evaluated},
        "speed": speed(run),
    }
