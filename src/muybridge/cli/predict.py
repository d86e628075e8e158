"""`muybridge predict`: the classes of video files, and when they occur."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Interval

from muybridge.bounds import FramesPerSecond, FrameStep, NumClips, NumWorkers, Seconds, Share, Weight
from muybridge.cli.options import WithoutValue
from muybridge.cli.output import (
    compute_exit_code,
    print_notes,
)
from muybridge.cli.prediction_output import OutputOptions, PredictionOutput, follow_videos
from muybridge.cli.prediction_table import TableOptions, write_table
from muybridge.files.atomic import check_not_input, check_output_file
from muybridge.records import Checkpoint
from muybridge.terminal import print_lines
from muybridge.text import join_names

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
    checkpoint: Checkpoint | None = None
    """Which weights of run folders: best, chosen by their validation videos, or last (default: best where there are any)."""


@dataclass(frozen=True)
class SourceArguments:
    """lists"""

    columns: str | None = None
    """Which columns of lists are which, such as path=filename; what is left out is guessed from the names."""


@dataclass(frozen=True)
class EnsembleArguments:
    """two networks"""

    with_: str | None = None
    """Average the predictions with those of this network, e.g. of optical flow."""
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

    def list_given(self) -> list[str]:
        """The options of a timeline that were given."""
        given = [name for name in ("step", *SEGMENTATION_OPTIONS) if getattr(self, name) is not None]
        given += ["timeline_mode"] * (self.timeline_mode != "windows")
        return [f"--{name.replace('_', '-')}" for name in given]


@dataclass(frozen=True)
class OutputArguments:
    """output"""

    json: bool = False
    """Print one JSON object for each video."""
    output: str | None = None
    """Write to this file, as its extension says: .parquet or .csv (a table of classes), .json, .jsonl or .txt; with --timeline
    also .srt, or a folder for a file a video. - is standard output."""
    explain: str | None = None
    """Write an MP4 that shows where and when the network sees the most probable class of a video (Grad-CAM)."""
    ray: str | None = None
    """With a table as -o: work on the Ray cluster at this address (auto: the running one)."""

    def with_timeline(self, timeline: str | None) -> OutputOptions:
        """Where predictions go, and in which format."""
        file = None if self.output in (None, "-") else Path(str(self.output))
        return OutputOptions(file, timeline, self.json)


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
        muybridge predict runs/first match.mp4 --timeline -o match.srt
        muybridge predict runs/first match.mp4 --explain why.mp4
        muybridge predict runs/first videos/ -o predictions.csv
        muybridge predict runs/first millions.csv --ray auto -o predictions.parquet
    """
    _check_arguments(run, classification, ensemble, timeline, output)
    for file in filter(None, (output.output, output.explain)):
        check_not_input(Path(file), [run, ensemble.with_, *videos])

    from muybridge.prediction.inputs import list_videos

    time_origin = classification.time_origin
    inputs = list_videos(videos, columns=source.columns, source_fps=classification.source_fps, time_origin=time_origin)
    print_notes(inputs.notes)
    if time_origin != "picture" and not timeline.timeline and not inputs.has_segments:
        print_notes(["--time-origin is not used: there is no segment and no timeline."])
    if timeline.timeline and classification.workers:
        print_notes(["--workers is not used: with --timeline this process reads the videos."])
    from muybridge.prediction.recognizer import load
    from muybridge.weights.address import describe_unfinished, select_checkpoint

    weights = select_checkpoint(run, classification.checkpoint)
    print_notes(describe_unfinished(weights, *([ensemble.with_] if ensemble.with_ else [])))
    where = output.with_timeline(timeline.timeline)
    if where.is_table:
        return write_table(weights, inputs, _select_table_options(classification, output))
    files = inputs.videos
    if output.explain and len(files) > 1:
        raise ValueError(f"--explain writes a video of one video, not of {len(files)}; name one")
    if output.explain:
        check_not_input(Path(output.explain), files)
    where.check_videos(len(files))
    recognizer, *others = (
        load(address, classification.device, classification.precision, time_origin=time_origin)
        for address in (weights, *_list_second_weights(ensemble, classification.checkpoint))
    )
    if output.explain:
        recognizer.card.check_single_label("--explain")
    report, num_failed = PredictionOutput(where, recognizer.classes, files), 0
    with follow_videos(len(files), "window" if timeline.timeline else None) as progress:
        members = [replace(recognizer, on_progress=progress.update_share), *others]
        predictions = _predict_each(members, inputs, classification, ensemble, timeline, run)
        for prediction in inputs.add_problems(predictions):
            progress.finish_video()
            num_failed += prediction.status != "ok"
            report.add(prediction)
            if prediction.status == "ok" and output.explain:
                _write_explanation(prediction, recognizer, output.explain, inputs.rates.get(prediction.video))
            if progress.is_stopping:
                break
        report.finish()
        progress.raise_if_stopping()
    return compute_exit_code(num_failed, len(files))


def _select_table_options(classification: ClipArguments, output: OutputArguments) -> TableOptions:
    assert output.output is not None, "a table has a file"
    return TableOptions(
        output=output.output,
        json=output.json,
        ray=output.ray,
        clips=classification.clips,
        top=classification.top,
        device=classification.device,
        precision=classification.precision,
        workers=classification.workers,
        source_fps=classification.source_fps,
        time_origin=classification.time_origin,
    )


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
    where = output.with_timeline(timeline.timeline)
    is_table = where.is_table
    if output.ray and not is_table:
        raise ValueError("--ray writes predictions into a file; name it, such as -o predictions.parquet")
    if ensemble.weights and not ensemble.with_:
        raise ValueError("--weights are those of two networks; name the second one with --with")
    if not timeline.timeline and (given := timeline.list_given()):
        raise ValueError(f"options of a timeline were given ({join_names(given)}); add --timeline, or leave them out")
    if is_table:
        if ensemble.with_ or timeline.timeline or output.explain:
            raise ValueError(
                f"a table such as {output.output} is of one network and without timelines and explanations; leave out --with, "
                "--timeline and --explain"
            )
        if Path(run).suffix == ".onnx":
            raise ValueError(
                f"a table such as {output.output} needs weights with a card; name the run or the .safetensors file"
            )
        if classification.clips < 1 or classification.top < 1:
            raise ValueError(
                f"--clips and --top must be at least 1, not {classification.clips} and {classification.top}"
            )
        check_output_file(Path(str(output.output)))
        return
    where.check()
    if output.explain:
        _check_explanation(run, ensemble, output.explain)
    if timeline.timeline and ensemble.with_:
        raise ValueError("a timeline is made by one network; leave out --with, or --timeline")


def _list_second_weights(ensemble: EnsembleArguments, checkpoint: Checkpoint | None) -> list[str]:
    """The weights of --with, if given; --checkpoint chooses between those of a run folder."""
    from muybridge.weights.address import select_checkpoint

    given = [ensemble.with_] if ensemble.with_ else []
    return [select_checkpoint(address, checkpoint if Path(address).is_dir() else None) for address in given]


def _check_explanation(run: str, ensemble: EnsembleArguments, path: str) -> None:
    if ensemble.with_:
        raise ValueError("an explanation is of one network; leave out --with, or --explain")
    if Path(run).suffix == ".onnx":
        raise ValueError("an .onnx file has no gradients to explain; name the run or the .safetensors file")
    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"--explain is {path}, expected a file that ends in .mp4")
    check_output_file(Path(path))


def _write_explanation(prediction: Prediction, recognizer: Recognizer, path: str, source_fps: float | None) -> None:
    from muybridge.console import create_progress
    from muybridge.prediction.explanation import explain_video
    from muybridge.records import VideoError

    with create_progress() as bar:
        task = bar.add_task("explaining", total=None)
        try:
            explain_video(
                recognizer,
                prediction.video,
                Path(path),
                prediction.classes[0][0],
                source_fps=source_fps,
                on_progress=lambda num_done, num_clips: bar.update(task, completed=num_done, total=num_clips),
            )
        except VideoError as error:
            raise ValueError(f"{prediction.video} cannot be explained: {error.reason}") from error
    print_lines([f"where and when the network sees {prediction.classes[0][0]}: {path}"], error=True)


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
    from muybridge.prediction.timeline_tuning import apply_choice

    videos, clips, top = inputs.readable_videos, classification.clips, classification.top
    rates, workers = inputs.get_rates(videos), classification.workers
    if len(members) > 1:
        network = create_ensemble(members, ensemble.weights or [1.0] * len(members))
        yield from network.predict_each(videos, clips=clips, top=top, source_fps=rates, workers=workers)
        return
    options = None
    if timeline.timeline:
        options = TimelineOptions(timeline.step, mode=timeline.timeline_mode)
        options, note = apply_choice(run, members[0].card.tensors_sha256, options)
        print_notes([note] if note else [])
        given = {name: getattr(timeline, name) for name in SEGMENTATION_OPTIONS}
        options = replace(options, **{name: value for name, value in given.items() if value is not None})
    yield from members[0].predict_each(
        videos, clips=clips, top=top, timeline=options, source_fps=rates, workers=workers
    )
