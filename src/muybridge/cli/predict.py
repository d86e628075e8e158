"""`muybridge predict`: what is in video files, and when."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.cli.options import verb_parser

if TYPE_CHECKING:
    from muybridge.prediction.recognizer import Prediction, Recognizer

EXAMPLES = (
    "muybridge predict runs/first holiday.mp4",
    "muybridge predict runs/first videos/ --json > predictions.jsonl",
    "muybridge predict runs/rgb videos/ --with runs/flow --weights 0.6 0.4",
    "muybridge predict runs/first match.mp4 --timeline",
    "muybridge predict runs/first match.mp4 --timeline csv --step 4 --timeline_mode convolutional",
    "muybridge predict r2plus1d_18-kinetics400-torchvision holiday.mp4",
    "muybridge predict runs/first match.mp4 --timeline srt -o match.srt",
    "muybridge predict runs/first millions.csv --ray auto -o predictions.parquet",
)
MODES = ("windows", "convolutional")
FORMATS = ("text", "json", "csv", "srt")


def run(words: Sequence[str]) -> int:
    """Prints one block (or one JSON line) a video; exit code 3 when some failed, 1 when all did."""
    parser = verb_parser(
        "predict",
        "RUN VIDEO|FOLDER ... [--top K] [--clips N] [--json] [--with RUN2 [--weights W W]] [--timeline [FORMAT]] "
        "[-o FILE|FOLDER] [--ray ADDRESS]",
        "Names the classes of video files; folders stand for the videos in them.",
        EXAMPLES,
    )
    parser.add_argument("run", help="a run folder, a .safetensors or .onnx file, or a name of the catalogue")
    parser.add_argument("videos", nargs="+", help="video files, folders, and CSV files with a column path")
    parser.add_argument("--with", dest="other", metavar="RUN2", help="average with this network, e.g. of optical flow")
    parser.add_argument("--weights", nargs=2, type=float, metavar="W", help="of RUN and RUN2 (default: 1 1)")
    parser.add_argument("--top", type=int, default=5, help="classes to name")
    parser.add_argument("--clips", type=int, default=10, help="clips a video, uniformly spaced")
    parser.add_argument("--json", action="store_true", help="print one JSON object for every video")
    parser.add_argument("--timeline", nargs="?", const="text", choices=FORMATS, help="also what happens when")
    parser.add_argument("--step", type=int, help="frames between two windows of the timeline (default: a quarter clip)")
    parser.add_argument(
        "--timeline_mode",
        choices=MODES,
        default="windows",
        help="timeline: each window by itself, or one convolutional pass along the video: faster, other scores",
    )
    parser.add_argument("--minimum_probability", type=float, default=0.0, help="timeline: less probable is a gap")
    parser.add_argument("--minimum_seconds", type=float, default=0.0, help="timeline: shorter segments are merged")
    parser.add_argument(
        "-o",
        "--output",
        help="write the timeline to this file, or into this folder for several videos; "
        "or, named .parquet, the classes of all videos into this table",
    )
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="with -o X.parquet: work on this Ray cluster (auto: the running one)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    found = parser.parse_args(list(words))
    writes_table = str(found.output).endswith(".parquet")
    if found.ray and not writes_table:
        raise ValueError("--ray writes predictions into a file; name it, such as -o predictions.parquet")
    if writes_table:
        from muybridge.cli.predict_table import predict_table

        return predict_table(found)
    if found.output and not found.timeline:
        raise ValueError("-o is where a timeline goes; add --timeline json, csv or srt")
    if found.timeline_mode != "windows" and not found.timeline:
        raise ValueError("--timeline_mode is about a timeline; add --timeline")
    if found.weights and not found.other:
        raise ValueError("--weights are those of two networks; name the second one with --with")
    if found.timeline and found.other:
        raise ValueError("a timeline is told by one network; leave out --with, or --timeline")
    return _predict(found)


def _predict(found: Any) -> int:
    from muybridge.prediction.inputs import list_video_files
    from muybridge.prediction.recognizer import load

    videos = list_video_files(found.videos)
    tells_timeline_alone = found.timeline not in (None, "text") and not found.output and not found.json
    if tells_timeline_alone and len(videos) > 1:
        raise ValueError(f"--timeline {found.timeline} prints nothing but one video's timeline; name a folder with -o")
    recognizer = load(found.run, device=found.device)
    others = [load(found.other, device=found.device)] if found.other else []
    num_failed = 0
    for prediction in _predictions([recognizer, *others], videos, found):
        num_failed += prediction.status != "ok"
        if found.json:
            print(json.dumps(_json_object(prediction, recognizer, found.timeline)), flush=True)
        elif not tells_timeline_alone or prediction.status != "ok":
            _print(prediction, show_segments=found.timeline == "text")
        if (found.output or tells_timeline_alone) and prediction.status == "ok":
            _write_timeline(prediction, recognizer, found, _timeline_file(prediction.video, videos, found))
    return 0 if not num_failed else 1 if num_failed == len(videos) else 3


def _predictions(members: Sequence[Recognizer], videos: Sequence[str], found: Any) -> Iterator[Prediction]:
    from muybridge.prediction.ensemble import create_ensemble
    from muybridge.prediction.timeline import TimelineOptions

    if len(members) > 1:
        together = create_ensemble(members, found.weights or [1.0] * len(members))
        for video in videos:
            yield together.predict(video, clips=found.clips, top=found.top)
        return
    options = None
    if found.timeline:
        options = TimelineOptions(found.step, found.minimum_probability, found.minimum_seconds, found.timeline_mode)
    for video in videos:
        yield members[0].predict(video, clips=found.clips, top=found.top, timeline=options)


def _json_object(prediction: Prediction, recognizer: Recognizer, timeline: str | None) -> dict[str, Any]:
    from muybridge.prediction.timeline import to_json

    if timeline is None:
        return prediction.to_json()
    told = to_json(prediction.windows, prediction.segments, recognizer.card.classes)
    return {**prediction.to_json(), "timeline": told}


def _print(prediction: Prediction, *, show_segments: bool) -> None:
    print(prediction.video)
    if prediction.status != "ok":
        print(f"  {prediction.status}: {prediction.reason}")
        return
    for label, probability in prediction.classes:
        print(f"  {100 * probability:5.1f} %  {label}")
    if prediction.reason:
        print(f"  ({prediction.reason})")
    if show_segments:
        for segment in prediction.segments:
            span = f"{segment.start_seconds:7.2f} - {segment.end_seconds:7.2f} s"
            print(f"  {span}  {segment.label} ({100 * segment.mean_probability:.0f} %)")


def _timeline_file(video: str, videos: Sequence[str], found: Any) -> Path | None:
    """Where a timeline goes: the file or folder asked for; below a folder the videos keep their folders, so names differ."""
    if not found.output:
        return None
    target = Path(found.output)
    if len(videos) == 1 and not target.is_dir():
        return target
    above = os.path.commonpath([Path(name).absolute().parent for name in videos])
    below = Path(video).absolute().relative_to(above)
    return target / below.with_name(f"{below.name}.{found.timeline}")


def _write_timeline(prediction: Prediction, recognizer: Recognizer, found: Any, target: Path | None) -> None:
    from muybridge.files.atomic import write_text
    from muybridge.prediction.timeline import to_csv, to_json, to_srt

    match found.timeline:
        case "json":
            told = to_json(prediction.windows, prediction.segments, recognizer.card.classes)
            text = json.dumps({"video": prediction.video, **told}, indent=2) + "\n"
        case "csv":
            text = to_csv(prediction.segments)
        case _:
            text = to_srt(prediction.segments)
    if target is None:
        print(text, end="")
        return
    write_text(target, text)
    print(f"wrote {target}", file=sys.stderr)
