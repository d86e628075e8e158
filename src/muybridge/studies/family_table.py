"""The family beside the paper: parameters and multiply-adds of every network, and Table 2's accuracies at depth 18."""

from __future__ import annotations

from typing import NamedTuple

import torch

from muybridge.models.cost import cost
from muybridge.models.family import DEPTHS, format_paper_name, list_models
from muybridge.models.network import create_model
from muybridge.studies.paper import TABLE2


class FamilyRow(NamedTuple):
    """One network; accuracies are percent, None where the paper prints none."""

    name: str
    paper_name: str
    parameters: int
    multiply_adds: int
    kinetics_clip_top1: float | None
    kinetics_video_top1: float | None


def compute_family_table(depth: int | None, frames: int, crop: int) -> list[FamilyRow]:
    """One row for each network, of one depth or of all, for clips of `frames` frames of crop x crop pixels.

    Raises ValueError for a depth that no network has, and for an empty clip.
    """
    if depth is not None and depth not in DEPTHS:
        raise ValueError(f"there are no networks of depth {depth}; the depths are {', '.join(map(str, DEPTHS))}")
    if frames < 1 or crop < 1:
        raise ValueError(f"a clip has at least one frame and one pixel, not {frames} frames of {crop}x{crop}")
    printed = {f"{row.family}_18": row for row in TABLE2}
    rows = []
    for name in list_models():
        if depth is not None and not name.endswith(f"_{depth}"):
            continue
        with torch.device("meta"):  # shapes without numbers: the deepest network costs nothing to count
            network = create_model(name, clip_length=frames)
        counted = cost(network, (3, frames, crop, crop))
        row = printed.get(name)
        rows.append(
            FamilyRow(
                name,
                format_paper_name(name),
                counted.parameters,
                counted.multiply_adds,
                getattr(row, f"clip_top1_{frames}f", None),
                getattr(row, f"video_top1_{frames}f", None),
            )
        )
    return rows
