"""`muybridge prepare`: videos once through the decoder, then random clips at its own speed for ever."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.cli.options import verb_parser

if TYPE_CHECKING:
    from muybridge.prepared.coverage import Coverage
    from muybridge.prepared.prepare import Preparation, Transcoder

EXAMPLES = (
    "muybridge prepare my_videos -o prepared",
    "muybridge prepare kinetics400 --format kinetics --fps 15 -o kinetics400_15fps",
    "muybridge prepare kinetics400 --format kinetics --fps 15 --flow -o kinetics400_15fps",
    "muybridge prepare --check kinetics400_15fps",
)


def run(words: Sequence[str]) -> int:
    """Prints the coverage; exit code 3 when some videos failed, 1 when all did or --check finds damage."""
    parser = verb_parser(
        "prepare",
        "SOURCE -o DATA [--format FORMAT] [--fps RATE] | --check DATA",
        "Scales and re-encodes every video of a source into shards made for random access. Stopped at any moment, the same "
        "line goes on where it was.",
        EXAMPLES,
    )
    parser.add_argument(
        "source", nargs="?", help="a folder of class folders, a CSV file, or a folder with official lists"
    )
    parser.add_argument("-o", "--output", help="the prepared folder to write")
    parser.add_argument("--format", help="folder, csv, kinetics, ucf101, hmdb51 or sports1m (default: folder or csv)")
    parser.add_argument("--fps", type=float, help="resample to this rate by time stamps (default: the source's own)")
    parser.add_argument("--scale", type=int, nargs=2, default=[128, 171], metavar=("H", "W"), help="size of the frames")
    parser.add_argument(
        "--flow", action="store_true", help="also store optical flow, so that training on it reads as fast"
    )
    parser.add_argument("--workers", type=int, help="child processes (default: one a core)")
    parser.add_argument("--timeout_seconds", type=float, default=600.0, help="for one video")
    parser.add_argument("--ray", metavar="ADDRESS", help="do the work on this Ray cluster (auto: the running one)")
    parser.add_argument(
        "--resume", action="store_true", help="accepted for scripts; unfinished work is always taken up"
    )
    parser.add_argument("--check", metavar="DATA", help="verify a prepared folder by its checksums")
    parser.add_argument("--json", action="store_true", help="print JSON")
    found = parser.parse_args(list(words))
    if found.check:
        return _check(found)
    if not found.source or not found.output:
        raise ValueError("name a source and a folder to write: muybridge prepare SOURCE -o DATA")
    return _prepare(found)


def _prepare(found: Any) -> int:
    from muybridge.prepared.prepare import Preparation, PreparationOptions
    from muybridge.prepared.source_listing import read_source

    if found.fps is not None and not found.fps > 0:
        raise ValueError(f"--fps must be positive, not {found.fps}")
    if min(found.scale) < 16:
        raise ValueError(f"--scale must be at least 16 16, not {found.scale[0]} {found.scale[1]}")
    if found.flow:
        from muybridge.video.flow import import_opencv

        import_opencv()  # before the work, where it is not installed
    kind = found.format or ("csv" if found.source.lower().endswith(".csv") else "folder")
    source = read_source(found.source, kind)
    for note in source.notes:
        print(note, file=sys.stderr)
    recipe = PreparationOptions(found.fps, found.scale[0], found.scale[1], flow=found.flow)
    told = _with_bar(Preparation(source, Path(found.output), recipe), _transcoder(found))
    if found.json:
        print(json.dumps(told.to_json(), indent=2))
    else:
        print("\n".join(told.format_lines()))
        print(f"prepared: {found.output}")
    if told.leaks:
        print(f"muybridge: WARNING: {len(told.leaks)} videos stand on both sides of a split", file=sys.stderr)
    return 0 if not told.failed else 1 if len(told.failed) == len(source.rows) else 3


def _transcoder(found: Any) -> Transcoder:
    if found.ray:
        from muybridge.prepared.ray import transcode_on_ray

        return lambda jobs: transcode_on_ray(jobs, address=found.ray, timeout_seconds=found.timeout_seconds)

    from muybridge.distributed.rank import resolve_num_workers
    from muybridge.prepared.worker_pool import transcode_in_workers

    number = max(1, resolve_num_workers(found.workers))
    return lambda jobs: transcode_in_workers(jobs, num_workers=number, timeout_seconds=found.timeout_seconds)


def _with_bar(preparation: Preparation, transcoder: Transcoder) -> Coverage:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from muybridge.prepared.prepare import prepare

    columns = (
        TextColumn("videos"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[gigabytes]:.2f} GB  {task.fields[failed]} failed"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("videos", total=len(preparation.source.rows), gigabytes=0.0, failed=0)
        return prepare(
            preparation,
            transcoder,
            on_progress=lambda at: bar.update(
                task, completed=at.num_done, gigabytes=at.num_bytes / 1e9, failed=at.num_failed
            ),
        )


def _check(found: Any) -> int:
    from muybridge.prepared.dataset import find_damage

    problems = list(find_damage(found.check))
    if found.json:
        print(json.dumps({"data": found.check, "problems": problems}, indent=2))
    else:
        print("\n".join(problems) or f"{found.check} is as it was written")
    return 1 if problems else 0
