"""`muybridge extract`: what enters the classifier, for clips of video files, as a Parquet file."""

from __future__ import annotations

import sys
from pathlib import Path

from muybridge.cli.output import print_notes
from muybridge.distributed.stop import stop_on_signals
from muybridge.files.atomic import check_output_file


def extract(
    run: str,
    videos: list[str],
    *,
    output: str,
    columns: str | None = None,
    clips: int = 10,
    step: int | None = None,
    device: str = "auto",
) -> int:
    """Writes the features before the classifier, one row for each clip. The same command resumes an interrupted run.

    Args:
        run: A run folder, a .safetensors file, or a catalogue name.
        videos: Video files, segments such as match.mp4#10-20 (in seconds), folders, and lists (CSV, TSV, JSON).
        output: The Parquet file to write.
        columns: Which columns of lists are which, such as path=filename; what is left out is guessed from the names.
        clips: Clips for each video, uniformly spaced.
        step: One clip every so many frames, instead of --clips.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        3 when some videos failed, 1 when all did.

    Examples:
        muybridge extract runs/first videos/ -o features.parquet
        muybridge extract runs/first match.mp4 --step 16 -o dense.parquet
    """
    check_output_file(Path(output))

    from muybridge.prediction.inputs import list_videos
    from muybridge.prediction.recognizer import load
    from muybridge.prediction.tables import FeaturesWriter
    from muybridge.records import VideoError

    inputs = list_videos(videos, columns=columns)
    print_notes(inputs.notes)
    files = inputs.videos
    recognizer = load(run, device=device)
    settings = {
        "model": recognizer.card.tensors_sha256,
        "preprocessing": recognizer.card.preprocessing.to_json(),
        "clips": None if step else clips,
        "step_frames": step,
    }
    failed_videos = set(inputs.problems)
    for video, reason in inputs.problems.items():
        print(f"{video}: unreadable: {reason}", file=sys.stderr)
    with stop_on_signals() as stop, FeaturesWriter(output, settings) as writer:
        for video in inputs.readable_videos:
            if video in writer.done_videos:
                continue
            stop.raise_if_requested()
            try:
                features = recognizer.features(video, clips=clips, step_frames=step)
            except VideoError as error:
                failed_videos.add(video)
                print(f"{video}: {error.status}: {error.reason}", file=sys.stderr)
                continue
            writer.add(features)
        stop.raise_if_requested()
        if len(failed_videos) == len(files):
            return 1
        num_rows = writer.finish(video for video in files if video not in failed_videos)
    print(f"{num_rows} clips of {len(files) - len(failed_videos)} videos in {output}")
    return 3 if failed_videos else 0
