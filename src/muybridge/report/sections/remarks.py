"""What belongs beside the metrics of a score file: training videos among the scored ones, weights chosen by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from muybridge.evaluation.scores import describe_different_data
from muybridge.report.document import Paragraph


def build_remarks(name: str, remarks: Sequence[str]) -> list[Paragraph]:
    """The remarks of a score file as warnings."""
    return [Paragraph(f"{name}: {remark}.", "warning") for remark in remarks]


def build_data_remarks(addresses: Mapping[str, str | None]) -> list[Paragraph]:
    """A warning where compared scores are of data in different places; `addresses` by the name of the run."""
    return [
        Paragraph(f"{sentence[0].upper()}{sentence[1:]}.", "warning") for sentence in describe_different_data(addresses)
    ]
