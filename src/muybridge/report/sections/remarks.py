"""What belongs beside the metrics of a score file: training videos among the scored ones, weights chosen by them."""

from __future__ import annotations

from collections.abc import Sequence

from muybridge.evaluation.overlap import NO_TEST_RESULT, NOT_CHOSEN
from muybridge.report.document import Paragraph


def list_remarks(split: str, remarks: Sequence[str]) -> list[str]:
    """What belongs beside the metrics of a score file; the split validation has a remark in any case."""
    if split == "validation" and not any(NO_TEST_RESULT in remark or NOT_CHOSEN in remark for remark in remarks):
        return [*remarks, f"{NO_TEST_RESULT}, since the best weights are chosen by the validation videos"]
    return list(remarks)


def build_remarks(name: str, split: str, remarks: Sequence[str]) -> list[Paragraph]:
    """The remarks of a score file as warnings."""
    return [Paragraph(f"{name}: {remark}.", "warning") for remark in list_remarks(split, remarks)]
