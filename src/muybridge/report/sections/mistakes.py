"""The part of a page that shows mistakes: clips that move, where the data can be read.

Enter: mistakes, and a reader of clips or the reason why there is none. Leave: blocks of a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from muybridge.records import VideoError
from muybridge.report.clip_images import ScoredClipReader, encode_animation, encode_still, open_clip_reader
from muybridge.report.document import Block, Gallery, GalleryItem, Paragraph
from muybridge.report.mistakes import Mistake
from muybridge.report.sources import RunRecord
from muybridge.report.tables import Table, make_columns
from muybridge.text import format_percent

CLIPS_NOTE = (
    "The clip of each video that is surest of the wrong class, at its own speed, cut as the network sees it. A sure mistake is "
    "often a wrong label or a video that shows both."
)


@dataclass(frozen=True)
class ReportClips:
    """Where the clips of a report come from; `absent` is a sentence where they cannot be had."""

    reader: ScoredClipReader | None
    missing_reason: str = ""


def find_clips(run: RunRecord, data: str | None, *, fallback_data: str | None = None) -> ReportClips:
    """A reader of the clips that a run was scored on, from `data` or else from where the run says it was trained.

    `beside` is where a run next to it was, for a score file that says nothing of its data. ValueError where `data` was named
    and cannot be read; a run's own address may well be gone.
    """
    address = data or run.data or fallback_data
    if not run.evaluations:
        return ReportClips(None, "There are no scores, so no mistakes.")
    if address is None:
        return ReportClips(
            None, "The clips are not shown: where the videos are is not known; name the data with --data."
        )
    header, seed = run.evaluations[0].video_scores.header, run.settings.get("seed", 0)
    try:
        reader = open_clip_reader(address, header, seed=seed if isinstance(seed, int) else 0)
    except (ValueError, OSError, ImportError) as error:
        if data:
            raise
        return ReportClips(None, f"The clips are not shown: {error}; name the data with --data.")
    return ReportClips(reader)


def build_clips_note(*clips: ReportClips) -> list[Block]:
    """What the pictures are, where there can be any."""
    return [Paragraph(CLIPS_NOTE)] if any(one.reader for one in clips) else []


def build_mistake_blocks(name: str, title: str, mistakes: Sequence[Mistake], clips: ReportClips) -> list[Block]:
    """The mistakes as moving pictures where the clips can be read, else as a table; files have the table anyway."""
    if not mistakes:
        return [Paragraph("The network was mistaken about no readable video.")]
    rows = tuple(
        (one.video, ", ".join(one.labels), one.predicted_class, 100 * one.probability, 100 * one.label_probability)
        for one in mistakes
    )
    columns = (
        *make_columns("video", "label", "taken for"),
        *make_columns("probability, %", "of the label, %", decimals=1),
    )
    table = Table(name, title, columns, rows)
    if clips.reader is None:
        return [Paragraph(clips.missing_reason), table]
    items, unread = _build_gallery_items(mistakes, clips.reader)
    warnings = [Paragraph(f"Not shown: {video}: {reason}.", "warning") for video, reason in unread]
    if not items:
        return [*warnings, table]
    in_files_only = replace(table, num_shown=0)  # the page has all of it under the pictures
    return [*_build_changed_data_warning(clips.reader), *warnings, Gallery(title, tuple(items)), in_files_only]


def _build_changed_data_warning(reader: ScoredClipReader) -> list[Block]:
    if reader.is_scored_list:
        return []
    return [
        Paragraph("The data is not the list of videos that was scored, so a picture may show another clip.", "warning")
    ]


def _build_gallery_items(
    mistakes: Sequence[Mistake], reader: ScoredClipReader
) -> tuple[list[GalleryItem], list[tuple[str, str]]]:
    items, unread = [], []
    for one in mistakes:
        try:
            clip = reader.read_clip(one.video, one.view)
        except VideoError as error:
            unread.append((one.video, error.reason))
            continue
        labels = ", ".join(one.labels)
        at = "" if one.start_seconds is None else f", from {one.start_seconds:.1f} s"
        items.append(
            GalleryItem(
                still=encode_still(clip),
                animation=encode_animation(clip),
                alt=f"Clip of {one.video}{at}: labelled {labels}, taken for {one.predicted_class}",
                heading=f"{one.predicted_class}, {format_percent(one.probability)}",
                lines=(f"labelled {labels}, {format_percent(one.label_probability)}", f"{one.video}{at}"),
            )
        )
    return items, unread
