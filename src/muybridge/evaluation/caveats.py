"""What belongs beside a result: training videos among the scored ones, weights chosen by them, a run that has not finished.

Input: weights and the videos that they score. Output: `Caveats`, whose sentences stand in score files, on pages and in print.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.datasets.manifest import Manifest
from muybridge.distributed.process_group import ProcessGroup
from muybridge.distributed.rank import current_rank
from muybridge.evaluation.overlap import MAYBE_CHOSEN, NO_TEST_RESULT, Overlap, OverlapError, find_overlap
from muybridge.records import Checkpoint
from muybridge.weights.address import describe_unfinished, find_checkpoint, find_run_folder
from muybridge.weights.card import Card
from muybridge.weights.download import is_public

_NOT_COMPARED = "not compared with the training and validation videos: "
_WITHOUT_RUN_FOLDER = f"{_NOT_COMPARED}the weights are not in their run folder"
_IMPORTED = f"{_NOT_COMPARED}what the imported weights were trained on is not known"


@dataclass(frozen=True)
class Caveats:
    """What belongs beside a result: the overlap with the videos of the run and which of its weights were scored, in sentences.

    `overlap` and `checkpoint` are None for weights that are not of a run folder, or not of its best or last ones.
    """

    overlap: Overlap | None
    checkpoint: Checkpoint | None
    remarks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values. `overlap` is null for weights that are not of a run."""
        overlap = self.overlap.to_json() if self.overlap else None
        return {"checkpoint": self.checkpoint, "overlap": overlap, "remarks": list(self.remarks)}


def find_caveats(
    address: str | Path, card: Card, scored: Manifest, split: str, *, refuse_overlap: bool = False
) -> Caveats:
    """Compares the scored videos with those of the run that `address` is of. Rank 0 does it for all.

    Of weights outside a run folder it says that they are not compared, unless they are public ones of the catalogue.

    Raises `OverlapError` with `refuse_overlap` where training videos are among them, or it cannot be told.
    """
    run, checkpoint = find_run_folder(address), find_checkpoint(address, card.tensors_sha256)
    overlap = None if run is None else _find_overlap_for_all(run, scored)
    is_public_file = overlap is None and is_public(address, card)
    if overlap is None:
        remarks = [] if is_public_file else [_IMPORTED if card.is_imported else _WITHOUT_RUN_FOLDER]
    else:
        remarks = overlap.format_sentences(checkpoint)
    if refuse_overlap and overlap is None:
        raise OverlapError(f"{address} is not of a run folder, so the videos it was trained on are not known")
    if refuse_overlap and overlap and (overlap.num_training or overlap.problem):
        raise OverlapError("; ".join(remarks))
    is_unknown = not is_public_file if overlap is None else bool(overlap.problem and not overlap.num_validation)
    if split == "validation" and checkpoint != "last" and is_unknown:
        remarks = [f"{NO_TEST_RESULT}: a validation split, by which these weights {MAYBE_CHOSEN}", *remarks]
    return Caveats(overlap, checkpoint, (*remarks, *describe_unfinished(address)))


def _find_overlap_for_all(run: Path, scored: Manifest) -> Overlap:
    """The overlap, computed by rank 0."""
    ranks = ProcessGroup(current_rank())
    overlap = ranks.broadcast_from_rank0(find_overlap(run, scored) if ranks.is_rank0 else None)
    assert overlap is not None, "rank 0 has computed it"
    return overlap
