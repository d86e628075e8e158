"""`muybridge extract`: what enters the classifier, for clips of video files, as a Parquet file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from muybridge.cli.options import verb_parser

EXAMPLES = (
    "muybridge extract runs/first videos/ -o features.parquet",
    "muybridge extract runs/first match.mp4 --step 16 -o dense.parquet",
)


def run(words: Sequence[str]) -> int:
    """Writes features.parquet (video, view, start_seconds, features); exit code 3 when some videos failed, 1 when all did."""
    parser = verb_parser(
        "extract",
        "RUN VIDEO|FOLDER ... -o FILE.parquet [--clips N | --step FRAMES]",
        "Writes the features before the classifier, a row a clip. Started again, it goes on where it was.",
        EXAMPLES,
    )
    parser.add_argument("run", help="a run folder, a .safetensors file, or a name of the catalogue")
    parser.add_argument("videos", nargs="+", help="video files and folders")
    parser.add_argument("-o", "--output", required=True, help="the Parquet file to write")
    parser.add_argument("--clips", type=int, default=10, help="clips a video, uniformly spaced")
    parser.add_argument("--step", type=int, help="instead: a clip every so many frames")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return _extract(parser.parse_args(list(words)))


def _extract(found: Any) -> int:
    from muybridge.prediction.inputs import list_video_files
    from muybridge.prediction.recognizer import load
    from muybridge.prediction.tables import FeaturesWriter
    from muybridge.records import VideoError

    videos = list_video_files(found.videos)
    recognizer = load(found.run, device=found.device)
    settings = {
        "model": recognizer.card.tensors_sha256,
        "preprocessing": recognizer.card.preprocessing.to_json(),
        "clips": None if found.step else found.clips,
        "step_frames": found.step,
    }
    num_failed = 0
    with FeaturesWriter(found.output, settings) as file:
        for video in videos:
            if video in file.done_videos:
                continue
            try:
                features = recognizer.features(video, clips=found.clips, step_frames=found.step)
            except VideoError as error:
                num_failed += 1
                print(f"{video}: {error.status}: {error.reason}", file=sys.stderr)
                continue
            file.add(features)
        if num_failed == len(videos):
            return 1
        num_rows = file.finish(videos)
    print(f"{num_rows} clips of {len(videos) - num_failed} videos in {found.output}")
    return 3 if num_failed else 0
