"""The report of one run, or of one score file.

Enter: a `Run`, and a reader of its clips or the reason why there is none. Leaves: a `Page`.
"""

from __future__ import annotations

from muybridge.report.document import Block, Page, Section, Text
from muybridge.report.sections.accuracy import (
    accuracy_blocks,
    class_blocks,
    confusion_blocks,
    protocol_sentence,
    top1_sentence,
)
from muybridge.report.sections.mistakes import Clips, how_shown, mistake_blocks
from muybridge.report.sections.training import curve_blocks, failure_blocks, settings_table, speed, speed_blocks
from muybridge.report.sources import Evaluated, Run
from muybridge.report.tables import Table, titles
from muybridge.text import counted

NO_SCORES = "There are no scores yet, so no accuracy: run `muybridge evaluate` on this run."


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


def _scored_sections(run: Run, clips: Clips) -> list[Section]:
    if not run.evaluated:
        return [Section("accuracy", "Accuracy", (Text(NO_SCORES, "warning"),))]
    first = run.evaluated[0]
    of = f" ({first.name})" if len(run.evaluated) > 1 else ""
    return [
        Section("accuracy", "Accuracy", tuple(accuracy_blocks(run.evaluated))),
        Section("confusion", f"Confusion{of}", tuple(confusion_blocks(first))),
        Section("classes", f"Classes{of}", tuple(class_blocks(first))),
        Section("mistakes", f"Most confident mistakes{of}", tuple(_mistakes(first, clips))),
    ]


def _mistakes(first: Evaluated, clips: Clips) -> list[Block]:
    blocks = mistake_blocks("mistakes", "Most confident mistakes", first.mistakes, clips)
    return [*how_shown(clips), *blocks] if first.mistakes else blocks


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
