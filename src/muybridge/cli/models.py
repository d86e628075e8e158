"""`muybridge models`: the family as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence

from muybridge.cli.options import verb_parser

EXAMPLES = ("muybridge models", "muybridge models --depth 34 --json", "muybridge models --frames 8 --crop 224")


def run(words: Sequence[str]) -> int:
    """Prints name, parameters and multiply-adds of every network, and what the paper reports for it."""
    parser = verb_parser("models", "[--depth D] [--frames L] [--crop S] [--json]", "Lists the networks.", EXAMPLES)
    parser.add_argument("--depth", type=int, help="10, 18, 34, 50, 101 or 152 only (default: all)")
    parser.add_argument("--frames", type=int, default=16, help="frames in a clip, for the multiply-adds")
    parser.add_argument("--crop", type=int, default=112, help="height and width of a clip, for the multiply-adds")
    parser.add_argument("--json", action="store_true", help="print JSON")
    found = parser.parse_args(list(words))
    rows = family_rows(found.depth, found.frames, found.crop)
    if found.json:
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows, found.frames, found.crop)
    return 0


def family_rows(depth: int | None, frames: int, crop: int) -> list[dict[str, object]]:
    """One row a network: name, the paper's name, parameters, multiply-adds, and Table 2's accuracies at depth 18."""
    import torch

    from muybridge.models.cost import cost
    from muybridge.models.family import DEPTHS, format_paper_name, list_models
    from muybridge.models.network import create_model
    from muybridge.studies.paper import TABLE2

    if depth is not None and depth not in DEPTHS:
        raise ValueError(f"there are no networks of depth {depth}; the depths are {', '.join(map(str, DEPTHS))}")
    if frames < 1 or crop < 1:
        raise ValueError(f"a clip has at least one frame and one pixel, not {frames} frames of {crop}x{crop}")
    printed = {f"{row.family}_18": row for row in TABLE2}
    rows: list[dict[str, object]] = []
    for name in list_models():
        if depth is not None and not name.endswith(f"_{depth}"):
            continue
        with torch.device("meta"):  # shapes without numbers: the deepest network costs nothing to count
            network = create_model(name, clip_length=frames)
        counted = cost(network, (3, frames, crop, crop))
        row = printed.get(name)
        rows.append(
            {
                "name": name,
                "paper_name": format_paper_name(name),
                "parameters": counted.parameters,
                "multiply_adds": counted.multiply_adds,
                "kinetics_clip_top1": getattr(row, f"clip_top1_{frames}f", None),
                "kinetics_video_top1": getattr(row, f"video_top1_{frames}f", None),
            }
        )
    return rows


def _print_table(rows: Sequence[dict[str, object]], frames: int, crop: int) -> None:
    print(f"{'name':<14}{'paper':<13}{'parameters':>13}{'GMACs':>10}{'clip@1':>9}{'video@1':>9}")
    for row in rows:
        accuracies = "".join(
            f"{row[name] if row[name] is not None else '-':>9}"
            for name in ("kinetics_clip_top1", "kinetics_video_top1")
        )
        gigas = f"{int(str(row['multiply_adds'])) / 1e9:.3f}"
        print(f"{row['name']:<14}{row['paper_name']:<13}{row['parameters']:>13,}{gigas:>10}{accuracies}")
    print(
        f"\n400 classes, clips of 3x{frames}x{crop}x{crop}; GMACs: 10^9 multiply-adds of convolutions and classifier."
    )
    print("clip@1 and video@1: percent on Kinetics-400 as printed in the paper's Table 2 (8 and 16 frames, depth 18).")
