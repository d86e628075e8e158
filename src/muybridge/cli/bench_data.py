"""`muybridge bench decode` and `muybridge bench loader`: how fast this machine reads clips."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muybridge.cli.options import VerbParser, verb_parser

EXAMPLES = (
    "muybridge bench decode holiday.mp4",
    "muybridge bench loader --data prepared --workers 8 --clips_per_second 300",
)


def run(words: Sequence[str]) -> int:
    """Measures and prints; never judges with its exit code."""
    what, rest = words[0], list(words[1:])
    parser = verb_parser(
        f"bench {what}",
        "VIDEO ... [--clips N] [--rounds N]"
        if what == "decode"
        else "--data DATA [--workers N] [--clips_per_second RATE]",
        "Random 16-frame clips a processor second, raw and prepared, beside other libraries."
        if what == "decode"
        else "Training clips a second from a data set, and whether a training would wait for them.",
        EXAMPLES,
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return _decode(parser, rest) if what == "decode" else _loader(parser, rest)


def _decode(parser: VerbParser, words: Sequence[str]) -> int:
    parser.add_argument("videos", nargs="+", help="video files of at least 16 frames")
    parser.add_argument("--clips", type=int, default=100, help="clips in a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts")
    found = parser.parse_args(list(words))

    from muybridge.bench.decode import make_benchmark_videos, measure_decoding

    videos = [Path(video) for video in found.videos]
    with tempfile.TemporaryDirectory() as folder:
        told = measure_decoding(
            videos, make_benchmark_videos(videos, Path(folder)), num_clips=found.clips, num_rounds=found.rounds
        )
    if found.json:
        print(json.dumps(told, indent=2))
        return 0
    for row in sorted(told["clips_per_processor_second"], key=lambda row: -row["clips_per_second"]):
        print(f"{row['clips_per_second']:8.1f} clips/s  {row['name']:<14}{row['material']:<20}to {row['reaches']}")
    for name, ratio in told["ratios"].items():
        print(f"{ratio:8.2f} x       {name}")
    print("\n".join(told["absent"]))
    return 0


def _loader(parser: VerbParser, words: Sequence[str]) -> int:
    parser.add_argument("--data", required=True, help="a data address; its training videos are drawn")
    parser.add_argument("--workers", type=int, help="worker processes (default: one a core)")
    parser.add_argument("--clips_per_second", type=float, default=1050.0, help="what the network can train on")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--device", default="cpu", help="where clips are converted: cpu, cuda or cuda:N")
    found: Any = parser.parse_args(list(words))

    from muybridge.bench.loader import format_verdict, measure_loading, to_json
    from muybridge.distributed.rank import resolve_num_workers
    from muybridge.loading.open_data import open_data
    from muybridge.records import Preprocessing

    data = open_data(found.data)
    workers = resolve_num_workers(found.workers)
    rates = measure_loading(
        data.select_split("train"), Preprocessing(), num_workers=workers, seconds=found.seconds, device=found.device
    )
    said = format_verdict(data.root, rates, found.clips_per_second, resolve_num_workers(None))
    if found.json:
        print(json.dumps(to_json(rates, said), indent=2))
    else:
        print(f"{rates.workers} workers: {rates.planes:.0f} clips/s as planes, {rates.converted:.0f} converted\n{said}")
    return 0
