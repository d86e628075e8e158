"""`muybridge prepare`: re-encodes a data set into shards from which random clips are read fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Interval

from muybridge.bounds import FramesPerSecond, NumWorkers
from muybridge.cli.output import compute_exit_code, print_json, print_notes
from muybridge.records import Task
from muybridge.terminal import print_line, print_lines
from muybridge.text import format_count

if TYPE_CHECKING:
    from muybridge.prepared.coverage import Coverage
    from muybridge.prepared.prepare import Preparation, PreparationOptions, Transcoder


@dataclass(frozen=True)
class ListArguments:
    """lists"""

    format: str | None = None
    """folder, csv, kinetics, ucf101, hmdb51, sports1m, something_something_v2, jester, moments_in_time or activitynet
    (default: folder or csv)."""
    columns: str | None = None
    """Which columns of a list are which, such as path=filename,label=class; what is left out is guessed from the names."""
    task: Task | None = None
    """What the data is for: with multi_label a video may have no label, and with regression the labels are numbers (default:
    labels, and numbers in columns target_NAME)."""
    validation: str = "auto"
    """Which training videos are held out where the source has no validation split: auto (a tenth of the groups), none, given
    (the source must have one), or a share such as 0.2. Drawn by seed 0, for runs of all seeds."""


@dataclass(frozen=True)
class FrameArguments:
    """frames"""

    fps: FramesPerSecond | None = None
    """Resample to this rate by time stamps (default: the rate of each video)."""
    scale: tuple[Annotated[int, Interval(ge=16, le=8192)], Annotated[int, Interval(ge=16, le=8192)]] = (128, 171)
    """Height and width of the frames."""
    source_fps: FramesPerSecond | None = None
    """The rate of frames stored without one: folders of pictures, archives, arrays (default: 25)."""
    flow: bool = False
    """Also store optical flow, so that training on it reads as fast."""
    time_origin: Literal["picture", "container"] = "picture"
    """Where seconds of segments count from: the first picture, or the clock of a player, which may start earlier, with the
    sound."""


@dataclass(frozen=True)
class WorkArguments:
    """work"""

    workers: NumWorkers | None = None
    """Worker processes (default: one for each core)."""
    timeout_seconds: Annotated[float, Interval(gt=0, le=10_000_000)] = 600.0
    """Time limit for one video."""
    ray: str | None = None
    """Work on the Ray cluster at this address (auto: the running one)."""
    resume: bool = False
    """Accepted for scripts; unfinished work is always resumed."""


def prepare(
    source: str | None = None,
    *,
    output: str | None = None,
    lists: ListArguments,
    frames: FrameArguments,
    work: WorkArguments,
    check: str | None = None,
    json: bool = False,
) -> int:
    """Scales and re-encodes every video of a source into shards made for random access.

    The same command resumes interrupted work.

    Args:
        source: A folder of class folders, a list (CSV, TSV, JSON), or a folder with official lists.
        output: The prepared folder to write.
        check: Verify this prepared folder by its checksums instead.
        json: Print JSON.

    Returns:
        3 when some videos failed, 1 when all did or --check finds damage.

    Examples:
        muybridge prepare my_videos -o prepared
        muybridge prepare my_videos -o prepared --validation 0.2
        muybridge prepare kinetics400 --format kinetics --fps 15 -o kinetics400_15fps
        muybridge prepare kinetics400 --format kinetics --fps 15 --flow -o kinetics400_15fps
        muybridge prepare --check kinetics400_15fps
    """
    if check:
        if source or output:
            raise ValueError("--check verifies a prepared folder and writes none; leave out SOURCE and -o")
        return _check(check, json=json)
    if not source or not output:
        raise ValueError("name a source and a folder to write: muybridge prepare SOURCE -o DATA")

    from muybridge.datasets.rows import check_time_origin
    from muybridge.datasets.splits import ValidationSplit
    from muybridge.prepared.prepare import Preparation
    from muybridge.prepared.source_listing import read_source

    recipe = _make_recipe(frames)
    listing = read_source(
        source,
        lists.format or "folder",
        columns=lists.columns,
        source_fps=frames.source_fps,
        validation=ValidationSplit(rule=lists.validation),
        task=lists.task,
    )
    print_notes((*listing.notes, *check_time_origin(listing.rows, frames.time_origin)))
    coverage = _prepare_with_progress(Preparation(listing, Path(output), recipe), _create_transcoder(work))
    if json:
        print_json(coverage.to_json())
    else:
        print_lines(coverage.format_lines())
        print_line(f"prepared: {output}")
    if coverage.leaks:
        leaks = format_count(len(coverage.leaks), "video")
        verb = "is" if len(coverage.leaks) == 1 else "are"
        print_line(f"muybridge: WARNING: {leaks} {verb} on both sides of a split", error=True)
    return compute_exit_code(len(coverage.failed), len(listing.rows))


def _make_recipe(frames: FrameArguments) -> PreparationOptions:
    from muybridge.prepared.prepare import PreparationOptions

    height, width = frames.scale
    if frames.flow:
        from muybridge.video.flow import import_opencv

        import_opencv()  # fails before the work, where it is not installed
    return PreparationOptions(frames.fps, height, width, flow=frames.flow, time_origin=frames.time_origin)


def _create_transcoder(work: WorkArguments) -> Transcoder:
    if address := work.ray:
        if work.workers is not None:
            raise ValueError("--workers are those of this machine; leave it out, or leave out --ray")
        from muybridge.prepared.ray import transcode_on_ray

        return lambda jobs: transcode_on_ray(jobs, address=address, timeout_seconds=work.timeout_seconds)

    from muybridge.distributed.rank import resolve_num_workers
    from muybridge.prepared.worker_pool import transcode_in_workers

    num_workers = max(1, resolve_num_workers(work.workers))
    return lambda jobs: transcode_in_workers(jobs, num_workers=num_workers, timeout_seconds=work.timeout_seconds)


def _prepare_with_progress(preparation: Preparation, transcoder: Transcoder) -> Coverage:
    from muybridge.console import create_progress
    from muybridge.prepared.prepare import prepare as prepare_shards

    num_videos = len(preparation.source.rows)
    with create_progress() as bar:
        task = bar.add_task("videos", total=num_videos)
        return prepare_shards(
            preparation,
            transcoder,
            on_progress=lambda progress: bar.update(
                task,
                completed=progress.num_done,
                figures=(
                    f"{progress.num_done}/{num_videos}",
                    f"{progress.num_failed} failed",
                    f"{progress.num_bytes / 1e9:.2f} GB",
                ),
            ),
        )


def _check(data: str, *, json: bool) -> int:
    from muybridge.prepared.dataset import find_damage
    from muybridge.prepared.shards import is_remote

    if is_remote(data):
        raise ValueError(f"--check reads files, and {data} is an address; check the folder that was uploaded")
    problems = list(find_damage(data))
    if json:
        print_json({"data": data, "problems": problems})
    else:
        print_lines(problems or [f"{data} is as it was written"])
    return 1 if problems else 0
