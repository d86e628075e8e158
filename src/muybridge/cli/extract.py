"""`muybridge extract`: what enters the classifier, for clips of video files, as a Parquet file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from muybridge.bounds import FramesPerSecond, FrameStep, NumClips, NumWorkers
from muybridge.cli.output import print_notes, resolve_output
from muybridge.cli.prediction_output import follow_videos
from muybridge.distributed.stop import stop_on_signals
from muybridge.files.atomic import check_not_input, check_output_file, is_stream
from muybridge.records import Checkpoint
from muybridge.terminal import print_line
from muybridge.text import format_count

if TYPE_CHECKING:
    from muybridge.prediction.recognizer import Recognizer

DEFAULT_CLIPS = 10


@dataclass(frozen=True)
class DeviceArguments:
    """weights and device"""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 on a GPU that computes it in hardware, else fp32."""
    checkpoint: Checkpoint | None = None
    """Which weights of a run folder: best, chosen by its validation videos, or last (default: best where there are any)."""


@dataclass(frozen=True)
class ReadingArguments:
    """reading"""

    columns: str | None = None
    """Which columns of lists are which, such as path=filename; what is left out is guessed from the names."""
    workers: NumWorkers | None = None
    """Worker processes that read videos (default: one for each core if there are many videos; with --step, none)."""
    source_fps: FramesPerSecond | None = None
    """The rate of frames stored without one: folders of pictures, archives, arrays (default: 25)."""
    time_origin: Literal["picture", "container"] = "picture"
    """Where seconds of segments, timelines and features count from: the first picture of a file, or the clock of a player,
    which may start earlier, with the sound."""


def extract(
    run: str,
    videos: list[str],
    *,
    output: str,
    clips: NumClips | None = None,
    step: FrameStep | None = None,
    device: DeviceArguments,
    reading: ReadingArguments,
) -> int:
    """Writes the features before the classifier, one row for each clip. The same command resumes an interrupted run.

    Args:
        run: A run folder, a .safetensors file, or a catalogue name.
        videos: Video files, segments such as match.mp4#10-20 (in seconds), folders, and lists (CSV, TSV, JSON).
        output: The file to write: .parquet, .csv, or .npz for NumPy; - prints CSV.
        clips: Clips for each video, uniformly spaced (default: 10).
        step: One clip every so many frames, instead of --clips.

    Returns:
        3 when some videos or clips failed, 1 when all videos did.

    Examples:
        muybridge extract runs/first videos/ -o features.parquet
        muybridge extract runs/first match.mp4 --step 16 -o dense.npz
    """
    if step is not None and clips is not None:
        raise ValueError(f"--step {step} and --clips {clips} exclude each other; leave one of them out")
    target = resolve_output(output)
    check_output_file(target, (".parquet", ".csv", ".npz"))
    check_not_input(target, [run, *videos])

    from muybridge.loading.datasets import Failure
    from muybridge.prediction.inputs import list_videos
    from muybridge.prediction.recognizer import load
    from muybridge.prediction.tables import FeaturesWriter
    from muybridge.weights.address import describe_unfinished, select_checkpoint

    inputs = list_videos(
        videos, columns=reading.columns, source_fps=reading.source_fps, time_origin=reading.time_origin
    )
    print_notes(inputs.notes)
    if step is not None and reading.workers:
        print_notes(["--workers is not used: with --step this process reads the videos."])
    clips = DEFAULT_CLIPS if clips is None else clips
    files = inputs.videos
    recognizer = load(
        select_checkpoint(run, device.checkpoint), device.device, device.precision, time_origin=reading.time_origin
    )
    remarks = describe_unfinished(run)
    print_notes(remarks)
    settings = _describe_features(recognizer, clips, step, reading)
    failed_videos = set(inputs.problems)
    for video, reason in inputs.problems.items():
        print_line(f"{video}: unreadable: {reason}", error=True)
    unit = "batch of clips" if step else "video"
    extension = ".csv" if output == "-" else None
    late_settings = {"specification": recognizer.card.specification.to_json()}
    table = FeaturesWriter(target, settings, late_settings=late_settings, remarks=remarks, extension=extension)
    with stop_on_signals(unit) as stop, table as writer:
        pending = writer.select_pending(inputs.readable_videos)
        with follow_videos(len(pending), unit) as progress:
            following = replace(recognizer, on_progress=progress.update_share_or_stop)
            for features in following.features_each(
                pending,
                clips=clips,
                step_frames=step,
                source_fps=inputs.get_rates(pending),
                workers=reading.workers,
            ):
                progress.finish_video()
                if isinstance(features, Failure):
                    failed_videos.add(features.video)
                    print_line(f"{features.video}: {features.status}: {features.reason}", error=True)
                else:
                    writer.add(features)
                stop.raise_if_requested()
        stop.raise_if_requested()
        if len(failed_videos) == len(files):
            return 1
        num_rows = writer.finish(video for video in files if video not in failed_videos)
    print_notes([f"{video}: {reason}" for video, reason in table.reasons.items()])
    # Standard output may be the file.
    num_videos = format_count(len(files) - len(failed_videos), "video")
    print_line(f"{format_count(num_rows, 'clip')} of {num_videos} in {output}", error=is_stream(target))
    return 3 if failed_videos or table.reasons else 0


def _describe_features(
    recognizer: Recognizer, clips: int, step: int | None, reading: ReadingArguments
) -> dict[str, object]:
    """What the rows of a file have in common; a file of other settings is not resumed."""
    return {
        "model": recognizer.card.tensors_sha256,
        "preprocessing": recognizer.card.preprocessing.to_json(),
        "clips": None if step else clips,
        "step_frames": step,
        **({} if reading.source_fps is None else {"source_fps": reading.source_fps}),
        **({} if reading.time_origin == "picture" else {"time_origin": reading.time_origin}),
        **({} if recognizer.precision == "fp32" else {"precision": recognizer.precision}),
    }
