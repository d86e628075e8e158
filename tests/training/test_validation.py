"""Validation during training: what is scored, on several ranks too."""

from __future__ import annotations

from pathlib import Path

import rank_work
from ranks import run_ranks
from runs import tiny_run


def test_ranks_validate_one_network(motions: Path, tmp_path: Path) -> None:
    """Without synchronised batch norm each rank has statistics of its own; all score with those of rank 0."""
    changes = {"training.synchronise_norm": False, "training.epochs": 1, "training.clips_per_epoch": 8}
    settings = tiny_run(motions, tmp_path / "run", changes)
    before, scored = zip(*run_ranks(2, rank_work.validate_networks, settings), strict=True)
    assert before[0] != before[1], "or nothing would have to be shared"
    assert scored[0] == scored[1] == before[0]
