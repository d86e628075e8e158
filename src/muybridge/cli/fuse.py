"""`muybridge fuse`: the scores of several networks into one answer a video, and its accuracy."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from muybridge.cli.options import verb_parser
from muybridge.text import format_percent

if TYPE_CHECKING:
    from muybridge.evaluation.fuse import Fusion

EXAMPLES = (
    "muybridge fuse runs/rgb/scores/test.parquet runs/flow/scores/test.parquet",
    "muybridge fuse rgb.parquet flow.parquet --weights 0.6 0.4 --json",
)


def run(words: Sequence[str]) -> int:
    """Prints the accuracy of each file and of their mean; exit code 3 when something could not be fused."""
    parser = verb_parser(
        "fuse",
        "SCORES.parquet SCORES.parquet ... [--weights W W ...] [--json]",
        "Averages the class probabilities of score files of the same videos, view by view.",
        EXAMPLES,
    )
    parser.add_argument("scores", nargs="+", help="score files that `muybridge evaluate` wrote")
    parser.add_argument("--weights", nargs="+", type=float, help="one for each file (default: all equal)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    found = parser.parse_args(list(words))

    from muybridge.evaluation.fuse import fuse
    from muybridge.evaluation.scores import read_scores

    members = [read_scores(Path(path)) for path in found.scores]
    fusion = fuse(members, found.weights or [1.0] * len(members), names=found.scores)
    if found.json:
        print(json.dumps(fusion.to_json(), indent=2))
    else:
        _print(fusion)
    for problem in fusion.problems:
        print(problem, file=sys.stderr)
    return 3 if fusion.problems or fusion.accuracy.num_failed_views else 0


def _print(fusion: Fusion) -> None:
    print(f"{fusion.format_sentence()}; split {fusion.accuracy.split}\n")
    rows = [*zip(fusion.names, fusion.members, strict=True), ("fused", fusion.accuracy)]
    width = max(len(name) for name, _ in rows)
    print(f"{'':<{width}}{'clip@1':>9}{'video@1':>9}   {'95 % interval':<17}{'video@5':>9}{'readable videos':>17}")
    for name, measured in rows:
        top1 = measured.video_top1.of_all
        clip = "-" if name == "fused" and fusion.level == "video" else format_percent(measured.clip_top1.of_all.share)
        interval = f"{100 * top1.low:.1f} to {100 * top1.high:.1f}"
        readable = f"{measured.num_videos - measured.num_failed_videos} of {measured.num_videos}"
        print(
            f"{name:<{width}}{clip:>9}{format_percent(top1.share):>9}   {interval:<17}"
            f"{format_percent(measured.video_top5.of_all.share):>9}{readable:>17}"
        )
