"""The part of a page that shows mistakes: clips that move, where the data can be read.

Enter: mistakes, and a reader of clips or the reason why there is none. Leave: blocks of a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from muybridge.records import VideoError
from muybridge.report.document import Block, Gallery, Picture, Text
from muybridge.report.mistakes import Mistake
from muybridge.report.pictures import ClipReader, clip_reader, moving_picture, still_picture
from muybridge.report.sources import Run
from muybridge.report.tables import Table, titles
from muybridge.text import percent

SHOWN = (
    "The clip of each video that is surest of the wrong class, at its own speed, cut as the network sees it. A sure mistake is "
    "often a wrong label or a video that shows both."
)


@dataclass(frozen=True)
class Clips:
    """Where the clips of a report come from; `absent` is a sentence where they cannot be had."""

    reader: ClipReader | None
    absent: str = ""


def find_clips(run: Run, data: str | None, *, beside: str | None = None) -> Clips:
    """A reader of the clips that a run was scored on, from `data` or else from where the run says it was trained.

    `beside` is where a run next to it was, for a score file that says nothing of its data. ValueError where `data` was named
    and cannot be read; a run's own address may well be gone.
    """
    address = data or run.data or beside
    if not run.evaluated:
        return Clips(None, "There are no scores, so no mistakes.")
    if address is None:
        return Clips(None, "The clips are not shown: where the videos are is not known; name the data with --data.")
    header, seed = run.evaluated[0].videos.header, run.settings.get("seed", 0)
    try:
        reader = clip_reader(address, header, seed=seed if isinstance(seed, int) else 0)
    except (ValueError, OSError, ImportError) as error:
        if data:
            raise
        return Clips(None, f"The clips are not shown: {error}; name the data with --data.")
    return Clips(reader)


def how_shown(*clips: Clips) -> list[Block]:
    """What the pictures are, where there can be any."""
    return [Text(SHOWN)] if any(one.reader for one in clips) else []


def mistake_blocks(name: str, title: str, mistakes: Sequence[Mistake], clips: Clips) -> list[Block]:
    """The mistakes as moving pictures where the clips can be read, else as a table; files have the table anyway."""
    if not mistakes:
        return [Text("The network was mistaken about no readable video.")]
    rows = tuple(
        (one.video, ", ".join(one.labels), one.taken_for, 100 * one.probability, 100 * one.label_probability)
        for one in mistakes
    )
    columns = (*titles("video", "label", "taken for"), *titles("probability, %", "of the label, %", decimals=1))
    table = Table(name, title, columns, rows)
    if clips.reader is None:
        return [Text(clips.absent), table]
    pictures, unread = _mistake_pictures(mistakes, clips.reader)
    said = [Text(f"Not shown: {video}: {reason}.", "warning") for video, reason in unread]
    if not pictures:
        return [*said, table]
    in_files_only = replace(table, num_shown=0)  # the page has all of it under the pictures
    return [*_changed(clips.reader), *said, Gallery(title, tuple(pictures)), in_files_only]


def _changed(reader: ClipReader) -> list[Block]:
    if reader.is_the_scored_list:
        return []
    return [Text("The data is not the list of videos that was scored, so a picture may show another clip.", "warning")]


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
