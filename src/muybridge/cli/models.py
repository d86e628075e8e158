"""`muybridge models`: the family as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from muybridge.bounds import ClipLength, FrameSize
from muybridge.cli.output import print_json
from muybridge.terminal import print_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from muybridge.studies.family_table import FamilyRow


def models(
    *,
    depth: Annotated[int, Interval(ge=1, le=1000)] | None = None,
    frames: ClipLength = 16,
    crop: FrameSize = 112,
    json: bool = False,
) -> int:
    """Lists the networks: parameters, multiply-adds, and the accuracies that the paper reports.

    Args:
        depth: Only networks of this depth: 10, 18, 34, 50, 101 or 152 (default: all).
        frames: Frames in a clip, for the multiply-adds.
        crop: Height and width of a clip, for the multiply-adds.
        json: Print JSON.

    Examples:
        muybridge models
        muybridge models --depth 34 --json
        muybridge models --frames 8 --crop 224
    """
    from muybridge.studies.family_table import compute_family_table

    rows = compute_family_table(depth, frames, crop)
    if json:
        print_json([row._asdict() for row in rows])
    else:
        _print_table(rows, frames, crop)
    return 0


def _print_table(rows: Sequence[FamilyRow], frames: int, crop: int) -> None:
    print_line(f"{'name':<14}{'paper':<13}{'parameters':>13}{'GMACs':>10}{'clip@1':>9}{'video@1':>9}")
    for row in rows:
        accuracies = "".join(
            f"{'-' if accuracy is None else accuracy:>9}"
            for accuracy in (row.kinetics_clip_top1, row.kinetics_video_top1)
        )
        gmacs = f"{row.multiply_adds / 1e9:.3f}"
        print_line(f"{row.name:<14}{row.paper_name:<13}{row.parameters:>13,}{gmacs:>10}{accuracies}")
    print_line()
    print_line(
        f"400 classes, clips of 3x{frames}x{crop}x{crop}; GMACs: 10^9 multiply-adds of convolutions and classifier."
    )
    print_line(
        "clip@1 and video@1: percent on Kinetics-400 as printed in the paper's Table 2 (8 and 16 frames, depth 18)."
    )
