"""The report of a run, or a score file, of the tasks multi_label, regression and ordinal."""

from __future__ import annotations

from muybridge.report.document import Page, Paragraph, Section
from muybridge.report.run_page import build_details, make_title
from muybridge.report.sections.accuracy import format_data, format_protocol
from muybridge.report.sections.remarks import build_remarks
from muybridge.report.sections.tasks import build_task_blocks
from muybridge.report.sources import RunRecord


def build_task_page(run: RunRecord) -> Page:
    """Build the page of a run of another task than single_label; it has a score file."""
    first = run.task_evaluations[0]
    data = f" Trained on {run.data}." if run.data else ""
    line = first.metrics.format_line().replace("  (", " (").replace("  ", ", ")  # a page shows two spaces as one
    lead = [
        Paragraph(f"Task {first.metrics.task}: {line}.{data}"),
        *build_remarks(first.name, first.remarks),
        *([Paragraph(f"The run has not finished: {run.unfinished}.", "warning")] if run.unfinished else []),
        *[Paragraph(f"{verdict[0].upper()}{verdict[1:]}.", "warning") for verdict in first.metrics.verdicts],
        Paragraph(f"Measured on {format_data(first)}{format_protocol(first.metrics)}."),
    ]
    sections = [
        Section(
            f"metrics-{number}",
            f"Metrics: {one.name}",
            tuple(build_task_blocks(one, first.metrics.protocol if number > 1 else None)),
        )
        for number, one in enumerate(run.task_evaluations, 1)
    ]
    summary = {
        "run": run.name,
        "metrics": {one.name: one.metrics.to_json() for one in run.task_evaluations},
        "remarks": {one.name: list(one.remarks) for one in run.task_evaluations},
    }
    return Page(make_title(run), tuple(lead), (*sections, *build_details(run)), dict(summary))
