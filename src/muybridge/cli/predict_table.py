"""`muybridge predict ... -o predictions.parquet`: a row a video, here or on a Ray cluster, taken up where it ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muybridge.prediction.recognizer import Prediction


def predict_table(found: Any) -> int:
    """Writes the file and says so; exit code 3 when some videos failed, 1 when all did."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from muybridge.prediction.inputs import list_video_files
    from muybridge.prediction.tables import PredictionsWriter
    from muybridge.weights.address import load_weights

    if found.other or found.timeline:
        raise ValueError("predictions.parquet is of one network and without timelines; leave out --with and --timeline")
    if Path(found.run).suffix == ".onnx":
        raise ValueError("predictions.parquet needs weights with a card; name the run or the .safetensors file")
    if found.clips < 1 or found.top < 1:
        raise ValueError(f"--clips and --top must be at least 1, not {found.clips} and {found.top}")
    card = load_weights(found.run)[1]
    videos = [str(Path(video).absolute()) if found.ray else video for video in list_video_files(found.videos)]
    settings = {"model_sha256": card.tensors_sha256, "clips": found.clips, "top": found.top}
    columns = (TextColumn("videos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=sys.stderr)
    with (
        PredictionsWriter(found.output, settings) as file,
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        left = [video for video in videos if video not in file.done_videos]
        task = bar.add_task("videos", total=len(videos), completed=len(videos) - len(left))
        for prediction in _predictions(found, left):
            file.add(prediction)
            bar.advance(task)
        num_failed = file.finish(videos)
    if found.json:
        print(json.dumps({"predictions": found.output, "num_videos": len(videos), "num_failed": num_failed}, indent=2))
    else:
        print(f"{len(videos)} videos, {num_failed} of them failed: {found.output}")
    return 0 if not num_failed else 1 if num_failed == len(videos) else 3


def _predictions(found: Any, videos: Sequence[str]) -> Iterator[Prediction]:
    if found.ray:
        from muybridge.prediction.ray import predict_on_ray

        run = str(Path(found.run).absolute()) if Path(found.run).exists() else found.run
        device = "cpu" if found.device == "auto" else found.device
        yield from predict_on_ray(run, videos, address=found.ray, device=device, clips=found.clips, top=found.top)
        return
    from muybridge.prediction.recognizer import load

    recognizer = load(found.run, found.device)
    for video in videos:
        yield recognizer.predict(video, clips=found.clips, top=found.top)
