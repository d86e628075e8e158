"""The section on confident mistakes: animated clips if the data can be read, else a table.

Input: mistakes, and a reader of their clips or the reason why there is none. Output: blocks of a page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from muybridge.datasets.splits import ValidationSplit
from muybridge.loading.open_data import read_data_options
from muybridge.models.network import VideoResNet
from muybridge.records import VideoError
from muybridge.report.clip_images import ScoredClipReader, encode_animation, encode_still, open_scored_clips
from muybridge.report.document import Block, Gallery, GalleryItem, Paragraph
from muybridge.report.mistakes import Mistake
from muybridge.report.sources import RunRecord
from muybridge.report.tables import Table, make_columns
from muybridge.text import format_percent
from muybridge.weights.address import RUN_FILES
from muybridge.weights.card import load_network

CLIPS_NOTE = (
    "The clip of each video with the highest probability of the wrong class (the middle one where the scores of clips were not "
    "kept), at its own speed, cropped as the network sees it. A confident mistake is often a wrong label or a video that shows "
    "both classes."
)

FLOW_NOTE = " Of a network of optical flow, the frames are shown at which its flow begins."
EVIDENCE_NOTE = " Below each clip, colour shows where and when the network sees that class (Grad-CAM)."


@dataclass(frozen=True)
class ReportClips:
    """The reader of a report's clips, or a sentence with the reason why there is none."""

    reader: ScoredClipReader | None
    missing_reason: str = ""
    on_clip: Callable[[int, int], object] | None = None
    """Called with (clips drawn, clips in total) of a gallery."""


def find_clips(run: RunRecord, data: str | None, *, fallback_data: str | None = None) -> ReportClips:
    """Open the clips that a run was scored on: from `data`, else where the score file or the run says, else `fallback_data`.

    `fallback_data` serves score files of older versions, which do not record their data. Raises ValueError if `data` is given
    and cannot be read; if the others cannot be read, the reason is in the result.
    """
    if not run.evaluations:
        return ReportClips(None, "There are no scores, so no mistakes.")
    first = run.evaluations[0]
    address = data or (first.data if first.is_of_other_data else run.data) or first.data or fallback_data
    if address is None:
        return ReportClips(
            None, "The clips are not shown: the location of the videos is not known; give it with --data."
        )
    header = first.video_scores.header
    is_training_data = run.settings and address == run.data
    options = read_data_options(run.settings)
    if not is_training_data:
        options = {"validation": ValidationSplit(options["validation"].seed)}
    try:
        reader = open_scored_clips(address, header, **options)
    except (ValueError, OSError, ImportError) as error:
        if data:
            raise
        return ReportClips(None, f"The clips are not shown: {error}; give the data with --data.")
    return ReportClips(replace(reader, network=_find_network(run)))


def _find_network(run: RunRecord) -> VideoResNet | None:
    """The network that was scored, if the run folder still has its weights, to show what it looked at; RGB only."""
    evaluation = run.evaluations[0]
    header = evaluation.video_scores.header
    for name in RUN_FILES:
        path = evaluation.path.parent.parent / name
        if header.protocol.preprocessing.modality == "rgb" and path.is_file():
            network, card = load_network(path)
            if card.tensors_sha256 == header.model_sha256:
                return network
    return None


def build_clips_note(*clips: ReportClips) -> list[Block]:
    """The explanation of the pictures, if any clips can be read."""
    readers = [run_clips.reader for run_clips in clips if run_clips.reader]
    if not readers:
        return []
    shows_flow = any(reader.protocol.preprocessing.modality == "flow" for reader in readers)
    shows_evidence = any(reader.network for reader in readers)
    return [Paragraph(CLIPS_NOTE + FLOW_NOTE * shows_flow + EVIDENCE_NOTE * shows_evidence)]


def build_mistake_blocks(name: str, title: str, mistakes: Sequence[Mistake], clips: ReportClips) -> list[Block]:
    """The mistakes as animated clips if they can be read, else as a table; files always contain the table."""
    if not mistakes:
        return [Paragraph("The network classified every readable video correctly.")]
    rows = tuple(
        (
            mistake.video,
            ", ".join(mistake.labels),
            mistake.predicted_class,
            100 * mistake.probability,
            100 * mistake.label_probability,
        )
        for mistake in mistakes
    )
    columns = (
        *make_columns("video", "label", "taken for"),
        *make_columns("probability, %", "of the label, %", decimals=1),
    )
    table = Table(name, title, columns, rows)
    if clips.reader is None:
        return [Paragraph(clips.missing_reason), table]
    items, unread = _build_gallery_items(mistakes, clips.reader, clips.on_clip)
    warnings = [Paragraph(f"Not shown: {video}: {reason}.", "warning") for video, reason in unread]
    if not items:
        return [*warnings, table]
    table_in_files = replace(table, num_shown=0)  # the page shows its contents under the pictures
    return [*_build_changed_data_warning(clips.reader), *warnings, Gallery(title, tuple(items)), table_in_files]


def _build_changed_data_warning(reader: ScoredClipReader) -> list[Block]:
    if reader.is_scored_list:
        return []
    return [
        Paragraph(
            "The data is not the list of videos that was scored, so a picture may show a different clip.", "warning"
        )
    ]


def _build_gallery_items(
    mistakes: Sequence[Mistake], reader: ScoredClipReader, on_clip: Callable[[int, int], object] | None
) -> tuple[list[GalleryItem], list[tuple[str, str]]]:
    items, unread = [], []
    for number, mistake in enumerate(mistakes):
        if on_clip:
            on_clip(number, len(mistakes))
        try:
            clip = reader.read_clip(mistake.video, mistake.view, mistake.predicted_class)
        except VideoError as error:
            unread.append((mistake.video, error.reason))
            continue
        labels = ", ".join(mistake.labels)
        at = "" if mistake.start_seconds is None else f", {mistake.start_seconds:.1f} s after its start"
        items.append(
            GalleryItem(
                still=encode_still(clip),
                animation=encode_animation(clip),
                alt=f"Clip of {mistake.video}{at}: labelled {labels}, taken for {mistake.predicted_class}",
                heading=f"{mistake.predicted_class}, {format_percent(mistake.probability)}",
                lines=(f"labelled {labels}, {format_percent(mistake.label_probability)}", f"{mistake.video}{at}"),
            )
        )
    return items, unread
