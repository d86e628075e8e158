"""What belongs beside the metrics of a score file: training videos among the scored ones, weights chosen by them."""

from __future__ import annotations

from collections.abc import Sequence

from muybridge.report.document import Paragraph


def build_remarks(name: str, remarks: Sequence[str]) -> list[Paragraph]:
    """The remarks of a score file as warnings."""
    return [Paragraph(f"{name}: {remark}.", "warning") for remark in remarks]
