"""`muybridge predict`: the classes of video files, and when they occur."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Interval

from muybridge.bounds import FramesPerSecond, FrameStep, NumClips, NumWorkers, Seconds, Share, Weight
from muybridge.cli.options import WithoutValue
from muybridge.cli.output import (
    compute_exit_code,
    create_count_progress,
    print_json,
    print_notes,
)
from muybridge.distributed.stop import stop_on_signals
from muybridge.files.atomic import check_output_file
from muybridge.terminal import print_document, print_line

if TYPE_CHECKING:
    from muybridge.prediction.inputs import VideoInputs
    from muybridge.prediction.recognizer import Prediction, Recognizer

SEGMENTATION_OPTIONS = ("minimum_probability", "minimum_seconds", "smoothing_seconds")


@dataclass(frozen=True)
class ClipArguments:
    """classification"""

    top: Annotated[int, Interval(ge=1, le=1_000_000)] = 5
    """Classes to name."""
    clips: NumClips = 10
    """Clips for each video, uniformly spaced."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    workers: NumWorkers | None = None
    """Worker processes that read videos (default: one for each core if there are many videos; 0: this process reads)."""
    source_fps: FramesPerSecond | None = None
    """The rate of frames stored without one: folders of pictures, archives, arrays (default: 25)."""
    time_origin: Literal["picture", "container"] = "picture"
    """Where seconds of segments and timelines count from: the first picture of a file, or the clock of a player, which may
    start earlier, with the sound."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 on a GPU that computes it in hardware, else fp32."""


@dataclass(frozen=True)
class SourceArguments:
    """lists"""

    columns: str | None = None
    """Which columns of lists are which, such as path=filename; what is left out is guessed from the names."""


@dataclass(frozen=True)
class EnsembleArguments:
    """two networks"""

    with_: str | None = None
    """Average the probabilities with those of this network, e.g. of optical flow."""
    weights: tuple[Weight, Weight] | None = None
    """The weights of RUN and of --with (default: 1 1)."""


@dataclass(frozen=True)
class TimelineArguments:
    """timeline"""

    timeline: Annotated[Literal["text", "json", "csv", "srt"] | None, WithoutValue("text")] = None
    """Also when the classes occur; in this format, as text without a value."""
    step: FrameStep | None = None
    """Frames between two windows (default: a quarter of a clip)."""
    timeline_mode: Literal["windows", "convolutional"] = "windows"
    """Each window by itself, or one convolutional pass along the video: faster, with other scores."""
    minimum_probability: Share | None = None
    """Leave a gap where the most probable class is less probable (default: 0, or as chosen by evaluate --timeline)."""
    minimum_seconds: Seconds | None = None
    """Merge shorter segments into their neighbours (default: 0, or as chosen by evaluate --timeline)."""
    smoothing_seconds: Seconds | None = None
    """Average probabilities over this time (default: 0, or as chosen by evaluate --timeline)."""


@dataclass(frozen=True)
class OutputArguments:
    """output"""

    json: bool = False
    """Print one JSON object for each video."""
    output: str | None = None
    """Write the timeline to this file, or into this folder for several videos; or, with the extension .parquet, the classes
    of all videos into this table."""
    ray: str | None = None
    """With -o X.parquet: work on the Ray cluster at this address (auto: the running one)."""

    @property
    def is_table(self) -> bool:
        """Whether the predictions go into a Parquet table."""
        return self.output is not None and self.output.endswith(".parquet")


def predict(
    run: str,
    videos: list[str],
    *,
    source: SourceArguments,
    classification: ClipArguments,
    ensemble: EnsembleArguments,
    timeline: TimelineArguments,
    output: OutputArguments,
) -> int:
    """Names the classes of video files; a folder stands for the videos in it.

    Args:
        run: A run folder, a .safetensors or .onnx file, or a catalogue name.
        videos: Video files, segments such as match.mp4#10-20 (in seconds), folders, and lists (CSV, TSV, JSON).

    Returns:
        3 when some videos failed, 1 when all did.

    Examples:
        muybridge predict runs/first holiday.mp4
        muybridge predict runs/first videos/ --json > predictions.jsonl
        muybridge predict runs/rgb videos/ --with runs/flow --weights 0.6 0.4
        muybridge predict runs/first match.mp4 --timeline
        muybridge predict runs/first match.mp4 --timeline csv --step 4 --timeline-mode convolutional
        muybridge predict r2plus1d_18-kinetics400-torchvision holiday.mp4
        muybridge predict runs/first match.mp4 --timeline srt -o match.srt
        muybridge predict runs/first millions.csv --ray auto -o predictions.parquet
    """
    _check_arguments(run, classification, ensemble, timeline, output)

    from muybridge.prediction.inputs import list_videos

    time_origin = classification.time_origin
    inputs = list_videos(videos, columns=source.columns, source_fps=classification.source_fps, time_origin=time_origin)
    print_notes(inputs.notes)
    if time_origin != "picture" and not timeline.timeline and not inputs.has_segments:
        print_notes(["--time-origin is not used: there is no segment and no timeline."])
    if output.is_table:
        return _write_table(run, inputs, classification, output)

    from muybridge.prediction.recognizer import load

    files = inputs.videos
    prints_timeline_only = timeline.timeline not in (None, "text") and not output.output and not output.json
    if prints_timeline_only and len(files) > 1:
        raise ValueError(f"--timeline {timeline.timeline} prints one video's timeline only; name a folder with -o")
    recognizer, *others = (
        load(address, classification.device, classification.precision, time_origin=time_origin)
        for address in (run, *([ensemble.with_] if ensemble.with_ else []))
    )
    members = [recognizer, *others]
    num_failed = 0
    predictions = _predict_each(members, inputs, classification, ensemble, timeline, run)
    for prediction in inputs.add_problems(predictions):
        failed = prediction.status != "ok"
        num_failed += failed
        if output.json:
            print_line(json.dumps(_to_json(prediction, recognizer, timeline.timeline)))
        elif failed or not prints_timeline_only:
            _print(prediction, show_segments=timeline.timeline == "text")
        if not failed and (output.output or prints_timeline_only):
            _write_timeline(prediction, recognizer, files, str(timeline.timeline), output.output)
    return compute_exit_code(num_failed, len(files))


def _check_arguments(
    run: str,
    classification: ClipArguments,
    ensemble: EnsembleArguments,
    timeline: TimelineArguments,
    output: OutputArguments,
) -> None:
    """Refuses options that exclude each other, before anything is loaded."""
    if output.ray and classification.workers is not None:
        raise ValueError("--workers are those of this machine; leave it out, or leave out --ray")
    if output.ray and not output.is_table:
        raise ValueError("--ray writes predictions into a file; name it, such as -o predictions.parquet")
    if output.is_table:
        if ensemble.with_ or timeline.timeline:
            raise ValueError(
                "predictions.parquet is of one network and without timelines; leave out --with and --timeline"
            )
        if Path(run).suffix == ".onnx":
            raise ValueError("predictions.parquet needs weights with a card; name the run or the .safetensors file")
        if classification.clips < 1 or classification.top < 1:
            raise ValueError(
                f"--clips and --top must be at least 1, not {classification.clips} and {classification.top}"
            )
        check_output_file(Path(str(output.output)))
        return
    if output.output and not timeline.timeline:
        raise ValueError("-o is for a timeline or a .parquet table; add --timeline json, csv or srt")
    if timeline.timeline_mode != "windows" and not timeline.timeline:
        raise ValueError("--timeline-mode applies to a timeline; add --timeline")
    if ensemble.weights and not ensemble.with_:
        raise ValueError("--weights are those of two networks; name the second one with --with")
    if timeline.timeline and ensemble.with_:
        raise ValueError("a timeline is made by one network; leave out --with, or --timeline")


def _predict_each(
    members: Sequence[Recognizer],
    inputs: VideoInputs,
    classification: ClipArguments,
    ensemble: EnsembleArguments,
    timeline: TimelineArguments,
    run: str,
) -> Iterator[Prediction]:
    from muybridge.prediction.ensemble import create_ensemble
    from muybridge.prediction.timeline import TimelineOptions
    from muybridge.prediction.timeline_tuning import read_choice

    videos, clips, top = inputs.readable_videos, classification.clips, classification.top
    rates, workers = inputs.get_rates(videos), classification.workers
    if len(members) > 1:
        network = create_ensemble(members, ensemble.weights or [1.0] * len(members))
        yield from network.predict_each(videos, clips=clips, top=top, source_fps=rates, workers=workers)
        return
    options = None
    if timeline.timeline:
        options = TimelineOptions(timeline.step, mode=timeline.timeline_mode)
        if choice := read_choice(run):
            options = choice.apply(options)
        given = {name: getattr(timeline, name) for name in SEGMENTATION_OPTIONS}
        options = replace(options, **{name: value for name, value in given.items() if value is not None})
    yield from members[0].predict_each(
        videos, clips=clips, top=top, timeline=options, source_fps=rates, workers=workers
    )


def _to_json(prediction: Prediction, recognizer: Recognizer, timeline: str | None) -> dict[str, Any]:
    from muybridge.prediction.timeline import timeline_to_json

    if timeline is None:
        return prediction.to_json()
    values = timeline_to_json(prediction.windows, prediction.segments, recognizer.card.classes)
    return {**prediction.to_json(), "timeline": values}


def _print(prediction: Prediction, *, show_segments: bool) -> None:
    print_line(prediction.video)
    if prediction.status != "ok":
        print_line(f"  {prediction.status}: {prediction.reason}")
        return
    for name, value, unit in prediction.values:
        print_line(f"  {value:10.4g} {unit:<3} {name}")
    for label, probability in prediction.classes:
        is_chosen = prediction.labels is not None and label in prediction.labels
        print_line(f"  {100 * probability:5.1f} %  {label}{'  *' if is_chosen else ''}")
    if prediction.reason:
        print_line(f"  ({prediction.reason})")
    if show_segments:
        for segment in prediction.segments:
            span = f"{segment.start_seconds:7.2f} - {segment.end_seconds:7.2f} s"
            print_line(f"  {span}  {segment.label} ({100 * segment.mean_probability:.0f} %)")


def _write_timeline(
    prediction: Prediction, recognizer: Recognizer, videos: Sequence[str], timeline_format: str, output: str | None
) -> None:
    from muybridge.files.atomic import write_text
    from muybridge.prediction.timeline_files import format_timeline, resolve_timeline_path

    text = format_timeline(prediction, recognizer.card.classes, timeline_format)
    if output is None:
        print_document(text)
        return
    path = resolve_timeline_path(prediction.video, videos, timeline_format, Path(output))
    write_text(path, text)
    print_line(f"wrote {path}", error=True)


def _write_table(run: str, inputs: VideoInputs, classification: ClipArguments, output: OutputArguments) -> int:
    """Writes one row for each video; an interrupted table is resumed."""
    from muybridge.prediction.tables import PredictionsWriter
    from muybridge.weights.address import load_weights

    assert output.output is not None
    card = load_weights(run)[1]
    if output.ray:
        inputs = inputs.make_absolute()
    videos = inputs.videos
    settings: dict[str, Any] = {
        "model_sha256": card.tensors_sha256,
        "clips": classification.clips,
        "top": classification.top,
    }
    if classification.source_fps is not None:
        settings["source_fps"] = classification.source_fps
    if classification.time_origin != "picture":
        settings["time_origin"] = classification.time_origin
    if classification.precision != "auto":  # rows of two precisions are not mixed
        settings["precision"] = classification.precision
    with (
        stop_on_signals() as stop,
        PredictionsWriter(output.output, settings, card.head) as writer,
        create_count_progress() as bar,
    ):
        pending = [video for video in videos if video not in writer.done_videos]
        task = bar.add_task("videos", total=len(videos), completed=len(videos) - len(pending))
        failures = [inputs.make_failure(video) for video in pending if video in inputs.problems]
        readable = [video for video in pending if video not in inputs.problems]
        predictions = _predict_rows(run, readable, inputs.get_rates(readable), classification, output.ray)
        for prediction in chain(failures, predictions):
            writer.add(prediction)
            bar.advance(task)
            stop.raise_if_requested()
        num_failed = writer.finish(videos)
    if output.json:
        print_json({"predictions": output.output, "num_videos": len(videos), "num_failed": num_failed})
    else:
        print_line(f"{len(videos)} videos, {num_failed} of them failed: {output.output}")
    return compute_exit_code(num_failed, len(videos))


def _predict_rows(
    run: str,
    videos: Sequence[str],
    rates: Sequence[float | None],
    classification: ClipArguments,
    ray: str | None,
) -> Iterator[Prediction]:
    clips, top, device = classification.clips, classification.top, classification.device
    if ray:
        from muybridge.prediction.ray import predict_on_ray

        run = str(Path(run).absolute()) if Path(run).exists() else run
        device = "cpu" if device == "auto" else device
        loading = (device, classification.precision, classification.time_origin)
        yield from predict_on_ray(run, videos, address=ray, loading=loading, clips=clips, top=top, rates=rates)
        return
    from muybridge.prediction.recognizer import load

    recognizer = load(run, device, classification.precision, time_origin=classification.time_origin)
    yield from recognizer.predict_each(videos, clips=clips, top=top, source_fps=rates, workers=classification.workers)
